"""The plain-text table at the end of a program: what varies between its runs, one column a task, the mean.

It says what the report of the study says (:mod:`embedllm.report.groups`), of the runs of this program alone: those that
differ in nothing but the seed are one row.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedllm.report.groups import MEAN, Cell, Group, tabulate
from embedllm.report.study import Run, Study
from embedllm.report.tables import aligned
from embedllm.runs import RunFolder

Result = Mapping[str, Any]
Asked = tuple[Mapping[str, Any], Mapping[str, str]]
"""The settings of a run, and the option of each group."""


def results_table(results: Sequence[Result], absent: Sequence[Asked] = ()) -> str:
    """Return a table with one row for the runs of each setting, in the order of the first of them.

    Runs that differ in nothing but the seed are one row of mean ± standard deviation, with their number. ``-`` stands
    for a score that is missing, ``incomplete`` for a mean that lacks a task of the table.

    Args:
        results: of the runs.
        absent: what was asked for and has no result; it counts in the rows of others that differ in the seed alone.
    """
    runs = [Run(_named(i), "done", "", one["config"], one["choices"], one) for i, one in enumerate(_distinct(results))]
    others = [Run(_named(i), "missing", "", *asked) for i, asked in enumerate(absent, len(runs))]
    table = tabulate(Study(Path(), tuple(runs), tuple(others)))
    groups = sorted((group for group in table.groups if group.runs), key=lambda group: int(group.runs[0].name))
    columns = [column.name for column in table.columns]
    settings = [[" ".join(value.split()) for value in group.settings] for group in groups]
    if not columns:
        columns = ["pooling", "prompt"]
        settings = [[str(group.runs[0].choices.get(name, "-")) for name in columns] for group in groups]
    several = any(group.size > 1 for group in groups)
    rows = [[*columns, *table.scored, *(["runs"] if several else [])]]
    for group, words in zip(groups, settings, strict=True):
        scores = [_cell(name, group.cell(tasks)) for name, tasks in table.scored.items()]
        rows.append([*words, *scores, *([_count(group)] if several else [])])
    return aligned(rows, left=len(columns))


def _named(place: int) -> RunFolder:
    """Return a folder that stands for a run: one run may be in the table twice, scored on different documents."""
    return RunFolder(Path(str(place)))


def _distinct(results: Iterable[Result]) -> list[Result]:
    """Return each run once: a sweep over what decides no weights makes it once, and has its result several times."""
    found: list[Result] = []
    for result in results:
        place = next((i for i, other in enumerate(found) if _is_same(other, result)), None)
        if place is None:
            found.append(result)
        else:
            found[place] = _joined(found[place], result)
    return found


def _is_same(one: Result, other: Result) -> bool:
    if not one.get("run_id") or any(one.get(name) != other.get(name) for name in ("run_id", "study")):
        return False
    shared = one["tasks"].keys() & other["tasks"].keys()
    return all(one["tasks"][task].get("of") == other["tasks"][task].get("of") for task in shared)


def _joined(one: Result, other: Result) -> Result:
    evaluations = [result["config"]["eval"] for result in (one, other)]
    tasks = list(dict.fromkeys(task for evaluation in evaluations for task in evaluation["tasks"]))
    config = {**one["config"], "eval": {**evaluations[0], "tasks": tasks}}
    return {**one, "config": config, "tasks": {**one["tasks"], **other["tasks"]}}


def _cell(column: str, cell: Cell) -> str:
    return "incomplete" if column == MEAN and cell.mean is None else str(cell)


def _count(group: Group) -> str:
    return f"{len(group.runs)} of {group.size}" if group.absent else str(len(group.runs))
