"""What became of the jobs of a program, and how it is told: tables, files of a scan, sentences, the exit code."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedllm.eval.suites import describe
from embedllm.report.results import Asked, results_table
from embedllm.report.tables import gains_table
from embedllm.runs import RunFolder
from embedllm.scoring import mteb_versions, with_versions

Result = Mapping[str, Any]

USE = """Use it, in Python:

    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer("{}")
    vectors = model.encode(["a first text", "a second text"])
"""


@dataclass
class Outcome:
    """What became of one job."""

    folder: RunFolder | None = None
    result: dict[str, Any] | None = None
    """Of a run or, with ``cells``, of a scan."""
    error: str | None = None
    bad_input: bool = False
    recorded: bool = False
    """Whether the traceback is in the run's ``error.txt``."""
    asked: Asked | None = None
    """The settings, of a run of a sweep."""


def report(outcomes: Sequence[Outcome], failure: str | None = None) -> int:
    """Print the tables and what went wrong; return the exit code: 0 done, 1 a job failed, 2 bad usage or input.

    Args:
        outcomes: of the jobs.
        failure: why a sweep ended before all its jobs were made.
    """
    results = [outcome.result for outcome in outcomes if outcome.result]
    runs = [result for result in results if result.get("tasks")]
    scans = _different_scans(outcomes)
    if runs:
        _report_runs(runs, [outcome.asked for outcome in outcomes if outcome.asked and not outcome.result])
    if scans:
        _report_scans(scans)
    for outcome in outcomes:
        if outcome.folder and outcome.result and not runs and not scans:
            print(f"no task was scored; the run is in {outcome.folder.path}")
    if len(outcomes) == 1 and outcomes[0].result and outcomes[0].folder and outcomes[0].folder.export.is_dir():
        print(USE.format(outcomes[0].folder.export))
    failed = [outcome for outcome in outcomes if outcome.error]
    sentences = [_sentence(outcome, len(outcomes) > 1) for outcome in failed]
    sentences += [
        f"{name} was not scored: {score['error']}"
        for result in results
        for scored in result.get("cells", [result])
        for name, score in scored["tasks"].items()
        if "error" in score
    ]
    sentences += [failure] if failure else []
    for sentence in dict.fromkeys(sentences):
        print(sentence, file=sys.stderr)
    if failed and not failure and all(outcome.bad_input for outcome in failed):
        return 2
    return 1 if sentences else 0


def _different_scans(outcomes: Sequence[Outcome]) -> list[Result]:
    """Return the scans, each once: a sweep over a setting that decides none makes one several times."""
    found = {}
    for outcome in outcomes:
        if outcome.result and "cells" in outcome.result:
            evaluation = outcome.result["config"]["eval"]
            found[outcome.folder, str(evaluation["tasks"]), evaluation["max_documents"]] = outcome.result
    return list(found.values())


def _report_runs(results: Sequence[Result], absent: Sequence[Asked]) -> None:
    print(f"\n{results_table(results, absent)}\n")
    for line in dict.fromkeys(_tasks_of(result) for result in results if result["tasks"]):
        print(f"tasks: {line}\n")
    if len(results) == 1 and results[0]["train"]:
        print(f"{gains_table(results[0])}\n")


def _report_scans(scans: Sequence[Result]) -> None:
    """Print the ranking of all cells, and write it into the study's folder."""
    from embedllm.report.ranking import rank, ranking_table, same_tasks, write

    if not same_tasks(scans):
        print("\nno ranking: the scans are of different tasks\n")
        return
    tasks = _tasks_of(scans[0])
    ranked = rank(scans)
    lacking = sum(cell["score"] is None for scan in scans for cell in scan["cells"])
    if lacking:
        print(
            f"\nincomplete: {lacking} of {lacking + len(ranked)} ways to make vectors lack a score and are not ranked"
        )
    if not ranked:
        return
    config = scans[0]["config"]
    paths = write(Path(config["runs_dir"]).expanduser() / config["study"], ranked, tasks)
    print(f"\n{ranking_table(ranked)}\n\ntasks: {tasks}")
    print(f"{len(ranked)} ways to make vectors were tried on these tasks, so on others the best will score lower.\n")
    for name, path in paths.items():
        print(f"{name}: {path}")
    print(f"\nTrain the winner: python train.py --config-dir {paths['winner'].parent.parent} experiment=winner\n")


def _tasks_of(result: Result) -> str:
    settings = result["config"]["eval"]
    scored = [with_versions(part["tasks"], result) for part in result.get("cells", [result])]
    mteb = mteb_versions(entry for entries in scored for entry in entries.values())
    return describe(settings["tasks"], settings["max_documents"], mirror=settings.get("mirror"), mteb_version=mteb)


def _sentence(outcome: Outcome, several: bool) -> str:
    if outcome.folder is None or (outcome.bad_input and not several):
        return str(outcome.error)
    where = f" (the traceback is in {outcome.folder.error})" if outcome.recorded and not outcome.bad_input else ""
    return f"{outcome.folder.path.name} failed: {outcome.error}{where}"
