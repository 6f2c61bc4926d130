"""Where the numbers of a report come from: tasks, versions, commits, hardware and cost, as sentences."""

import math
from collections import Counter
from collections.abc import Mapping

from embedllm.eval.suites import describe
from embedllm.report.groups import Table
from embedllm.report.study import Run
from embedllm.report.words import plural
from embedllm.scoring import mteb_versions, with_versions


def provenance(table: Table) -> list[str]:
    """Return what every report says of the origin of its numbers."""
    runs = table.study.runs
    scored = {_scored(run): run for run in runs if run.tasks}
    lines = [f"tasks: {_described(run, mteb)}" for (*_, mteb), run in scored.items()]
    versions: dict[str, Counter[str]] = {}
    for run in runs:
        for name, version in run.versions.items():
            versions.setdefault(str(name), Counter())[str(version)] += 1
    words = ", ".join(f"{name} {' or '.join(found)}" for name, found in versions.items())
    lines += [f"versions: {words}"] if words else []
    for name, key in (("commit", "commit"), ("hardware", "hardware")):
        found = Counter(str(value) for run in runs if (value := run.result.get(key)))
        if found:
            lines.append(f"{name}: {_counted(found)}")
    seconds = [cost for run in runs if (cost := run.cost("seconds")) is not None]
    if seconds:
        lines.append(f"training: {_duration(math.fsum(seconds))} in all, {plural(len(seconds), 'run')}")
    return lines


def _scored(run: Run) -> tuple[str, str]:
    """Return what tells the tasks of runs apart, and the version of mteb."""
    settings = run.evaluation
    entries = {task: dict(entry) for task, entry in run.tasks.items() if task in run.asked}
    versions = mteb_versions(with_versions(entries, {"versions": run.versions}).values())
    return str([settings.get(name) for name in ("tasks", "max_documents", "mirror")]), versions or "of unknown version"


def _described(run: Run, mteb: str) -> str:
    settings = run.evaluation
    tasks = [str(task) for task in settings.get("tasks") or ()]
    return describe(tasks, settings.get("max_documents"), mirror=settings.get("mirror"), mteb_version=mteb)


def _counted(found: Mapping[str, int]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{name} ({plural(count, 'run')})" for name, count in found.items())


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"
