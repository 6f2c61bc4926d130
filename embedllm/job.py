"""One run, from its settings to ``result.json``: score, train, score again."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedllm import tracked
from embedllm.config import Config
from embedllm.development import check_development, check_overlap
from embedllm.errors import InputError
from embedllm.eval.specs import TaskSpec
from embedllm.eval.suites import load_suite
from embedllm.fine_tune import fine_tune
from embedllm.recipe import (
    build_augment,
    build_embedder,
    build_module,
    build_plan,
    build_table,
    check_training,
    identified,
    origin,
    plan_embedder,
    task_specs,
    untrained_encoder,
)
from embedllm.runs import RunFolder, replace_text, run_id
from embedllm.scorebook import ScoreBook, compared
from embedllm.scoring import missing_tasks, status
from embedllm.targets import check_targets

if TYPE_CHECKING:  # a finished run is skipped before torch is imported
    from embedllm.blueprint import Blueprint
    from embedllm.data.tables import PairTable
    from embedllm.embedder import Embedder
    from embedllm.eval.encoder import ProgressEncoder
    from embedllm.tracking import Tracker

log = logging.getLogger(__name__)

Settings = dict[str, Any]
Entries = dict[str, dict[str, Any]]


def run_folder(plain: Settings, choices: Mapping[str, str]) -> RunFolder:
    """Return the folder of the run with these settings: ``<runs_dir>/<study>/<pooling>-<prompt>-<hash8>``.

    Raises:
        InputError: if a file that the settings name is missing.
    """
    name = f"{choices['pooling']}-{choices['prompt']}-{run_id(identified(plain))}"
    return RunFolder(Path(plain["runs_dir"]).expanduser() / plain["study"] / name)


def finished(config: Config, folder: RunFolder) -> Settings | None:
    """Return the result of a run that is done and holds every task asked for. Imports neither torch nor mteb."""
    check_overlap(config)
    result = folder.read_result()
    if result is None or missing_tasks(task_specs(config), config.eval.max_documents, result["tasks"]):
        return None
    return None if config.export and not folder.export.is_dir() else _asked(result, config)


def dry_run(config: Config) -> str:
    """Return what the training of a run will take; nothing is written."""
    if config.trainer.max_steps == 0:
        raise InputError("dry_run: true, but trainer.max_steps is 0, so there is nothing to estimate")
    parts = plan_embedder(config)
    check_training(config, parts)
    if config.export:
        _check_export(parts)
    table = build_table(config)
    embedder = build_embedder(parts, config)

    from embedllm.estimate import estimate
    from embedllm.training import make_pools

    pools = make_pools(table, embedder, build_plan(config), build_augment(config))
    return str(estimate(build_module(config, embedder), pools))


def run_job(config: Config, plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> Settings:
    """Make a run, or what is missing of it, and return its result.

    Raises:
        InputError: before any weights are loaded, if a setting or an input is wrong or another process is at work on
            the run.
    """
    with folder.locked():
        return finished(config, folder) or _run(config, plain, choices, folder)


def _run(config: Config, plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> Settings:
    begin = time.monotonic()
    for group in ("pooling", "loss", "optimizer"):
        if "_target_" not in getattr(config, group):
            raise InputError(f"{group}: nothing is chosen; choose one of conf/{group}")
    check_targets(plain)
    _check_suite(config, choices)
    result = folder.read_result()
    table = None
    parts = plan_embedder(config) if result is None else None
    if config.export:
        _check_export(parts or folder.path)
    if config.trainer.max_steps > 0 and parts is not None:
        check_training(config, parts)
        table = build_table(config)
        check_development(config)
        _check_checkpoint(folder)

    from embedllm.eval.tasks import prepare_tasks

    specs = missing_tasks(task_specs(config), config.eval.max_documents, result["tasks"] if result else {})
    prepare_tasks(specs, config.eval.max_documents)  # raises for what is wrong with them, before weights load
    log.info("%s", folder.path)
    replace_text(folder.config, _yaml(plain))
    tracker = _tracker(config, plain, choices, folder)
    summary: dict[str, Any] = {}
    failed = True
    try:
        if parts is None:
            book = _score(_saved(folder), specs, config, folder, tracker, "after")
            assert result is not None
            result = {**result, "config": plain, "tasks": {**result["tasks"], **compared(None, book, specs)}}
        else:
            result = _new_result(config, plain, choices, folder, parts, table, tracker)
        result = {**result, **_means(_asked(result, config)["tasks"])}
        result["seconds"] = round(time.monotonic() - begin + result.get("seconds", 0.0), 3)
        summary = tracked.summary(result)
        failed = False
    finally:
        tracker.finish(summary, [] if failed else tracked.figures(folder), failed)
    folder.write_result(result)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    for stage in ("before", "after"):
        folder.scores(stage).unlink(missing_ok=True)
    if config.export:
        _export(folder)
    return _asked(result, config)


def _check_suite(config: Config, choices: Mapping[str, str]) -> None:
    """Warn if other tasks were typed than those of the suite that was chosen."""
    name = choices.get("suite")
    if name is not None and sorted(load_suite(name).tasks) != sorted(config.eval.tasks):
        log.warning("suite: %s was chosen, but eval.tasks names other tasks, and those count", name)


def _asked(result: Settings, config: Config) -> Settings:
    """Return a result with the tasks of ``eval.tasks`` only: a run may hold others, from other commands."""
    names = [spec.name for spec in task_specs(config)]
    tasks = {name: result["tasks"][name] for name in names}
    evaluation = {**result["config"]["eval"], "tasks": list(config.eval.tasks)}
    return {**result, "config": {**result["config"], "eval": evaluation}, "tasks": tasks, **_means(tasks)}


def _check_checkpoint(folder: RunFolder) -> None:
    """Raise if the checkpoint that the training would go on from is no good."""
    from embedllm.checkpoint import CHECKPOINT, read_checkpoint

    if (folder.checkpoints / CHECKPOINT).exists():
        read_checkpoint(folder.checkpoints / CHECKPOINT)


def _check_export(source: "Blueprint | Path") -> None:
    """Raise for a model that cannot be exported: one to be made, or that of a finished run."""
    from embedllm.export.exportable import check_exportable, check_source

    if isinstance(source, Path):
        check_source(source, "float32", adapter_only=False)
    else:
        check_exportable(source.spec, source.head)


def _export(folder: RunFolder) -> None:
    from embedllm.export import export

    log.info("export to %s", folder.export)
    export(folder.path, folder.export, replace=True)


def _new_result(
    config: Config,
    plain: Settings,
    choices: Mapping[str, str],
    folder: RunFolder,
    parts: "Blueprint",
    table: "PairTable | None",
    tracker: "Tracker",
) -> Settings:
    specs = task_specs(config)
    before, train, measured = None, None, {}
    if table is None:
        model = untrained_encoder(parts, config)
    else:
        embedder = build_embedder(parts, config)
        untrained = untrained_encoder(parts, config, embedder)
        before = _score(untrained, specs, config, folder, tracker, "before")
        measured["before"] = _measures(untrained, config)
        train = fine_tune(config, embedder, table, folder, tracker)
        model = embedder
    model.save(folder.model)
    after = _score(model, specs, config, folder, tracker, "after")
    measured["after"] = _measures(model, config)
    return {
        **origin(config, plain, choices, folder),
        "tasks": compared(before, after, specs),
        "intrinsic": {stage: found for stage, found in measured.items() if found},
        "train": train,
    }


def _measures(encoder: "ProgressEncoder", config: Config) -> dict[str, float]:
    """Return what the vectors are like, labels aside."""
    if not config.eval.intrinsic:
        return {}
    from embedllm.eval.intrinsic import measures

    found = measures(encoder)
    if found:
        log.info("%s", ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in found.items()))
    return found


def _score(
    encoder: "ProgressEncoder",
    specs: Sequence[TaskSpec],
    config: Config,
    folder: RunFolder,
    tracker: "Tracker",
    stage: str,
) -> ScoreBook:
    """Score the model as it is; what an interrupted attempt scored already is not scored again."""
    book = ScoreBook(folder, stage)
    if config.trainer.max_steps > 0 and book.missing(specs, config.eval.max_documents):
        log.info("score %s the training", stage)
    step = config.trainer.max_steps if stage == "after" else 0
    book.complete(
        encoder,
        specs,
        config.eval.max_documents,
        lambda name, value: tracker.log({f"eval/{name}": value}, step),
    )
    return book


def _means(tasks: Entries) -> Settings:
    """Return the status and the means over the tasks; a mean is null if a task has no score."""
    entries = list(tasks.values())
    return {
        "status": status(tasks),
        "score": _mean([entry.get("main_score") for entry in entries]),
        "score_before": _mean([entry.get("before") for entry in entries]),
    }


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known and len(known) == len(scores) else None


def _saved(folder: RunFolder) -> "Embedder":
    from embedllm.embedder import Embedder

    return Embedder.load(folder.path).to_accelerator()


def _tracker(config: Config, plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> "Tracker":
    from embedllm.tracking import Tracker, build_sinks

    tracker = Tracker(folder, build_sinks(config.logger, tracked.identity(plain, choices, folder)))
    tracker.start(tracked.settings(plain, choices, folder))
    return tracker


def _yaml(plain: Settings) -> str:
    import yaml

    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
