"""One scan, from its settings to ``scan.json``: the score of every pooling and depth of an untrained model and prompt.

``runs/<study>/scan-<prompt>-<hash8>/scan.json`` is written after each cell, so an interrupt loses none that was scored.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from embedllm import tracked
from embedllm.config import Config
from embedllm.errors import InputError
from embedllm.eval.score import mean_score
from embedllm.recipe import head_factory, identified, origin, plan_embedder, task_specs
from embedllm.runs import RunFolder, replace_text, run_id
from embedllm.scan_settings import pooling_option
from embedllm.scoring import documents_of, missing_tasks, status
from embedllm.targets import locate

if TYPE_CHECKING:
    from embedllm.blueprint import Blueprint
    from embedllm.eval.specs import TaskSpec
    from embedllm.scan.cells import Cell
    from embedllm.tracking import Tracker

log = logging.getLogger(__name__)

Settings = dict[str, Any]
Plans = dict["Cell", "Blueprint"]


def scan_folder(plain: Settings, choices: Mapping[str, str]) -> RunFolder:
    """Return the folder of the scan with these settings."""
    known = identified(plain)
    decides = {**known, "pooling": known["scan"], "centring": False}
    name = f"scan-{choices['prompt']}-{run_id(decides)}"
    return RunFolder(Path(plain["runs_dir"]).expanduser() / plain["study"] / name)


def finished_scan(config: Config, folder: RunFolder) -> Settings | None:
    """Return the result of a scan that is done and holds every task asked for. Imports neither torch nor mteb."""
    result = _read(folder)
    specs, sample = task_specs(config), config.eval.max_documents
    if result is None or not result["complete"]:
        return None
    if any(missing_tasks(specs, sample, cell["tasks"]) for cell in result["cells"]):
        return None
    return _asked(result, specs)


def run_scan(config: Config, plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> Settings:
    """Make a scan, or what is missing of it, and return its result.

    Raises:
        InputError: before any weights are loaded, if a setting or an input is wrong or another process is at work on
            the scan.
    """
    with folder.locked():
        return finished_scan(config, folder) or _scan(config, plain, choices, folder)


def _scan(config: Config, plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> Settings:
    plans = plan_scan(config)
    specs = task_specs(config)

    from embedllm.eval.tasks import prepare_tasks

    prepare_tasks(specs, config.eval.max_documents)
    log.info("%s", folder.path)
    stored = {_key(cell): cell for cell in (_read(folder) or {"cells": []})["cells"]}
    known = {key: cell["tasks"] for key, cell in stored.items()}
    result = origin(config, plain, choices, folder)
    found: Settings = {}
    tracker = _tracker(config, plain, choices, folder)
    summary: Settings = {}
    try:
        for cell, tasks in _scored(plans, config, specs, known):
            stored[_key(asdict(cell))] = {**asdict(cell), "tasks": tasks}
            cells = [stored[key] for key in (_key(asdict(cell)) for cell in plans) if key in stored]
            found = {**result, "complete": len(cells) == len(plans), "cells": cells}
            replace_text(folder.scan, json.dumps(found))
            tracker.log(tracked.cell_numbers({**asdict(cell), "tasks": tasks}), cell.layers)
        asked = _asked(found, specs)
        summary = tracked.scan_summary(asked)
    finally:
        tracker.finish(summary, failed=not summary)
    return asked


def _tracker(config: Config, plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> "Tracker":
    """Return what gets the numbers of the scan; without loggers nothing does, as all are in ``scan.json``."""
    from embedllm.tracking import NoTracker, Tracker, build_sinks

    if not config.logger:
        return NoTracker()
    tracker = Tracker(folder, build_sinks(config.logger, tracked.identity(plain, choices, folder)))
    tracker.keep(lambda step, name: False)  # cells of earlier attempts are told again
    tracker.start(tracked.settings(plain, choices, folder))
    return tracker


def plan_scan(config: Config) -> Plans:
    """Return the embedder of each cell; cells that are impossible or equal to others are left out.

    Raises:
        InputError: naming the setting that is wrong.
    """
    from embedllm.pooling import POOL_OVER, MeanPooling
    from embedllm.scan.cells import Cell, depths, differs_from_all
    from embedllm.scan.variants import Variant, draw_up_variants
    from embedllm.scan.vector_key import depth_of

    for pool_over in config.scan.pool_over:
        if pool_over not in POOL_OVER:
            raise InputError(f"scan.pool_over: {pool_over!r} is not one of {', '.join(POOL_OVER)}")
    base = plan_embedder(config, MeanPooling)
    variants: dict[Cell, Variant] = {}  # those that are centred, and the same that are not, count once
    for pooling in dict.fromkeys(config.scan.poolings):
        settings = pooling_option(pooling)
        for pool_over in config.scan.pool_over:
            head = head_factory({**settings, "pool_over": pool_over})
            if differs_from_all(locate(settings["_target_"]), pool_over, base.prompt):
                for layers in depths(depth_of(base.spec), config.scan.every):
                    variants[Cell(pooling, pool_over, layers, False)] = Variant(head, layers, base.spec.final_norm)
    prompt = config.prompt
    if not variants:
        raise InputError(
            f"scan.pool_over: {list(config.scan.pool_over)} leaves nothing to scan with the prompt {prompt.template!r} "
            f"and the heads {', '.join(config.scan.poolings)}; add all"
        )
    plans = draw_up_variants(
        base.spec, list(variants.values()), template=prompt.template, bos=prompt.bos, adapter=base.adapter
    )
    return {
        replace(cell, centring=centring): plan
        for cell, plan in zip(variants, plans, strict=True)
        for centring in config.scan.centring
    }


def _scored(
    plans: Plans, config: Config, specs: "list[TaskSpec]", known: Mapping[Any, Settings]
) -> "Iterator[tuple[Cell, Settings]]":
    """Yield each cell with the entries of its tasks, those of earlier attempts first."""
    from tqdm.auto import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from embedllm.eval.encoder import Watched
    from embedllm.eval.score import score_tasks
    from embedllm.scan.cached_encoder import CachedEncoder
    from embedllm.scan.vector_cache import VectorCache

    sample = config.eval.max_documents
    left = {cell: missing_tasks(specs, sample, known.get(_key(asdict(cell)), {})) for cell in plans}
    for cell in (cell for cell in plans if not left[cell]):
        yield cell, known[_key(asdict(cell))]
    todo = [cell for cell in plans if left[cell]]
    distinct = list({id(plan): plan for plan in plans.values()}.values())
    embedder = None
    with ExitStack() as stack:
        stack.enter_context(logging_redirect_tqdm())
        stack.enter_context(_quiet_scores())
        bar = stack.enter_context(tqdm(total=len(todo), unit="cell", desc="scan"))
        own = None if config.eval.cache else Path(stack.enter_context(TemporaryDirectory()))
        cache = VectorCache(own)
        for cell in todo:
            encoder = CachedEncoder(plans[cell], cache, distinct, centred=cell.centring, embedder=embedder)
            found = score_tasks(Watched(encoder), left[cell], max_documents=sample)
            of = {spec.name: documents_of(spec, sample) for spec in left[cell]}
            entries = {name: {**entry, "of": of[name]} for name, entry in found.items()}
            embedder = encoder.embedder or embedder  # loaded if a vector was missing
            bar.update()
            yield cell, {**known.get(_key(asdict(cell)), {}), **entries}


@contextmanager
def _quiet_scores() -> Iterator[None]:
    """Hush the line for each task: there are hundreds, and all are in the ranking."""
    logger = logging.getLogger("embedllm.eval.score")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _asked(result: Settings, specs: "list[TaskSpec]") -> Settings:
    """Return a result with the tasks of ``specs`` only, and the means over them; a mean that lacks a task is null."""
    names = [spec.name for spec in specs]
    cells = [{**cell, "tasks": {name: cell["tasks"][name] for name in names}} for cell in result["cells"]]
    cells = [{**cell, "score": mean_score(cell["tasks"])} for cell in cells]
    scores = [cell["score"] for cell in cells]
    incomplete = any(status(cell["tasks"]) == "incomplete" for cell in cells)
    best = max((score for score in scores if score is not None), default=None)
    return {**result, "cells": cells, "score": best, "status": "incomplete" if incomplete else "done"}


def _key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return cell["pooling"], cell["pool_over"], cell["layers"], cell["centring"]


def _read(folder: RunFolder) -> Settings | None:
    """Return what is written of a scan; None if nothing is."""
    if not folder.scan.is_file():
        return None
    found: Settings = json.loads(folder.scan.read_text(encoding="utf-8"))
    return found
