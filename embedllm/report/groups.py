"""The runs of a study by their settings: those that differ in nothing but the seed are one row of its table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedllm.report.columns import Column, documents, find_columns
from embedllm.report.study import Run, Study
from embedllm.report.tables import FIRST

MEAN = "mean"


@dataclass(frozen=True)
class Cell:
    """A score of several runs."""

    values: tuple[float, ...]
    """One for each run that has it."""
    asked: int
    """Runs that should have it: those that are not finished count."""

    @property
    def mean(self) -> float | None:
        """None if no run has the score."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """The standard deviation over the runs (n - 1); None of one run."""
        mean, n = self.mean, len(self.values)
        if mean is None or n < 2:
            return None
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (n - 1))

    @property
    def complete(self) -> bool:
        """Whether no run lacks the score."""
        return len(self.values) == self.asked

    def __str__(self) -> str:
        if self.mean is None:
            return NO_SCORE
        spread = "" if self.sd is None else f" ± {self.sd:.1f}"
        return f"{self.mean:.1f}{spread}" + ("" if self.complete else f" ({len(self.values)} of {self.asked})")


NO_SCORE = "-"


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    settings: tuple[str, ...]
    """The values of the columns."""
    label: str
    """The same in one line, numbers with their names."""
    runs: tuple[Run, ...]
    """Finished ones."""
    absent: tuple[Run, ...]
    """Those without a result."""

    @property
    def size(self) -> int:
        """How many runs it should have."""
        return len(self.runs) + len(self.absent)

    def cell(self, tasks: Sequence[str], key: str = "main_score") -> Cell:
        """Return the score of a task, or the mean over several: runs that lack one of them have none."""
        means = [run.mean(tasks, key) for run in self.runs]
        return Cell(tuple(mean for mean in means if mean is not None), self.size)

    def cost(self, name: str) -> float | None:
        """Return the mean over the runs of a number of their training; None if none has it."""
        found = [cost for run in self.runs if (cost := run.cost(name)) is not None]
        return math.fsum(found) / len(found) if found else None


@dataclass(frozen=True)
class Table:
    """A study's groups, best first, with the columns that tell them apart."""

    study: Study
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    tasks: tuple[str, ...]
    """Those that the mean is over."""
    others: tuple[str, ...]
    """Further tasks that a result holds, all of the same documents."""
    unplaced: tuple[Run, ...]
    """Runs without a result whose settings are not known."""

    @property
    def scored(self) -> dict[str, tuple[str, ...]]:
        """The columns of scores with the tasks that each is over; the last is what the groups are ordered by."""
        columns = {task: (task,) for task in (*self.others, *self.tasks)}
        return columns | ({MEAN: self.tasks} if len(self.tasks) > 1 else {})


def tabulate(study: Study) -> Table:
    """Return the groups of a study, the highest mean first and those that lack it last."""
    runs = [*study.runs, *study.absent]
    columns = find_columns(runs)
    placed: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.config:
            placed.setdefault(tuple(column.values[run.name] for column in columns), []).append(run)
    groups = [
        Group(
            settings,
            _label(columns, settings),
            tuple(run for run in found if run.done),
            tuple(run for run in found if not run.done),
        )
        for settings, found in placed.items()
    ]
    tasks = tuple(study.tasks)
    others = tuple(task for task in study.others if task not in tasks and len(documents(study.runs, task)) < 2)

    def order(group: Group) -> tuple[bool, float]:
        mean = group.cell(tasks).mean
        return mean is None, -(mean or 0.0)

    unplaced = tuple(run for run in study.absent if not run.config)
    return Table(study, tuple(columns), tuple(sorted(groups, key=order)), tasks, others, unplaced)


def _label(columns: Sequence[Column], settings: Sequence[str]) -> str:
    parts = [
        value if column.name in FIRST else f"{column.name.rpartition('.')[2]} {value}"
        for column, value in zip(columns, (" ".join(value.split()) for value in settings), strict=True)
    ]
    return ", ".join(parts) or "all runs"


def by_settings(table: Table, *names: str) -> dict[tuple[str, ...], list[Group]]:
    """Return the groups by the values of some columns."""
    places = [i for i, column in enumerate(table.columns) if column.name in names]
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in table.groups:
        found.setdefault(tuple(group.settings[place] for place in places), []).append(group)
    return found


def same_seeds(table: Table) -> Mapping[str, list[Run]]:
    """Return runs of equal settings and seed by the label of their group: a file that they name must have changed."""
    found: dict[str, list[Run]] = {}
    for group in table.groups:
        seen: dict[str, Run] = {}
        for run in group.runs:
            seed = str(run.config.get("seed"))
            if seed in seen:
                found.setdefault(group.label, [seen[seed]]).append(run)
            seen.setdefault(seed, run)
    return found
