"""What a reader must know of a study before its numbers: one sentence each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from embedllm.report.columns import documents
from embedllm.report.groups import Table, same_seeds
from embedllm.report.study import Run, Study
from embedllm.report.words import plural

SHOWN = 3
SAID = {
    "running": ("is running", "are running"),
    "failed": ("failed", "failed"),
    "unfinished": ("is unfinished", "are unfinished"),
    "unreadable": ("has a damaged result", "have damaged results"),
    "missing": ("is missing", "are missing"),
}
"""How each state is said of one run and of several."""


def notices(table: Table) -> list[str]:
    """Return what is wrong with a study, or is not what its name and its table seem to say."""
    study = table.study
    return [
        *_lacking(study),
        *_names(study),
        *_versions(study.runs),
        *_tasks(table),
        *(
            f"{_list(run.name for run in runs)} have equal settings and seed: a file or model that they name has "
            "changed in between, so their spread is not that of seeds"
            for runs in same_seeds(table).values()
        ),
    ]


def _lacking(study: Study) -> Iterator[str]:
    for state, said in SAID.items():
        names = [run.name for run in study.absent if run.state == state]
        if names:
            yield f"{plural(len(names), 'run')} {said[len(names) > 1]}: {_list(names)}"
    yield from (f"runs that were planned may be lacking: {sentence}" for sentence in study.damaged)
    incomplete = [run for run in study.runs if any(run.score(task) is None for task in {*run.asked, *run.tasks})]
    if incomplete:
        yield (
            f"{plural(len(incomplete), 'run')} {'lacks' if len(incomplete) == 1 else 'lack'} the score of a task: "
            + (_list(run.name for run in incomplete))
        )
    if study.scans:
        left = (
            "is not in this report; ranking.csv has it"
            if len(study.scans) == 1
            else "are not in this report; ranking.csv has them"
        )
        yield f"{plural(len(study.scans), 'scan')} of the study {left}"


def _names(study: Study) -> Iterator[str]:
    for copy, kept in study.copies.items():
        yield f"{copy} is the same run as {kept}, and is left out"
    for run in study.runs:
        identity = str(run.result.get("run_id", ""))
        if identity and not run.name.endswith(identity):
            yield f"{run.name} was renamed: its result is of run {identity}"
    names = Counter(str(run.result.get("study")) for run in study.runs if run.result.get("study"))
    if len(names) > 1:
        yield f"the folder holds runs of {len(names)} studies: {_counted(names)}; the column study tells them apart"
    elif names and next(iter(names)) != study.name:
        yield f"the folder {study.name} was renamed or copied: its runs are of study {next(iter(names))}"


def _versions(runs: Iterable[Run]) -> Iterator[str]:
    found: dict[str, Counter[str]] = {}
    for run in runs:
        for package, version in run.versions.items():
            found.setdefault(str(package), Counter())[str(version)] += 1
    mixed = [f"{package} {_counted(counts)}" for package, counts in found.items() if len(counts) > 1]
    if mixed:
        yield f"versions are mixed, which can move scores: {'; '.join(mixed)}"


def _tasks(table: Table) -> Iterator[str]:
    study = table.study
    asked = Counter(tuple(run.asked) for run in study.runs if run.asked)
    if len({frozenset(tasks) for tasks in asked}) > 1:
        yield "runs were scored on different tasks; a mean is only given where a run has all of them"
    for task in study.tasks:
        if (count := len(documents(study.runs, task))) > 1:
            yield f"{task} was scored on {count} different sets of documents; the column documents tells them apart"
    for task in study.others:
        if task not in table.others and task not in table.tasks:
            yield f"{task} was scored on different documents after the runs, and has no column"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({plural(count, 'run')})" for name, count in counts.items())


def _list(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more
