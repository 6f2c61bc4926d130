"""The table of a study with its verdicts: what Markdown, LaTeX and the page show, each in its own way."""

from collections import Counter
from dataclasses import dataclass

from embedllm.report.best import Gap, Judge, Verdict
from embedllm.report.groups import MEAN, Cell, Group, Table
from embedllm.report.notices import notices
from embedllm.report.study import STATES
from embedllm.report.words import plural, signed

INCOMPLETE = "incomplete"
SHOWN = 3


@dataclass(frozen=True)
class Entry:
    """A score in a row."""

    cell: Cell
    mark: str
    """``best``, ``tied`` with it, or nothing; only where an interval says so."""
    gap: Gap | None = None

    def __str__(self) -> str:
        return INCOMPLETE if self.cell.mean is None else str(self.cell)


@dataclass(frozen=True)
class Row:
    """A group with its scores."""

    group: Group
    entries: dict[str, Entry]
    """By column."""
    gap: Gap | None
    """How far it is behind the best on the mean."""
    best: bool

    @property
    def runs(self) -> str:
        """How many runs it has, and how many it should have."""
        group = self.group
        return f"{len(group.runs)}" if not group.absent else f"{len(group.runs)} of {group.size}"

    @property
    def behind(self) -> str:
        """The difference to the best with its interval."""
        if self.best:
            return "best"
        return "-" if self.gap is None else gap_text(self.gap)


@dataclass(frozen=True)
class Sheet:
    """Everything that is said in words and numbers."""

    table: Table
    rows: tuple[Row, ...]
    verdict: Verdict | None
    """On the mean."""
    notices: tuple[str, ...]

    @property
    def settings(self) -> list[str]:
        """Names of the columns of settings."""
        return [column.name for column in self.table.columns]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs there are of each state, the finished ones first; states without any are left out."""
        states = Counter(run.state for run in self.table.study.absent)
        return {"done": len(self.table.study.runs), **{state: states[state] for state in STATES if states[state]}}

    @property
    def summary(self) -> str:
        """What was run, in one line."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        seeds = {len(group.runs) for group in self.table.groups if group.runs}
        words = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(max(seeds, default=0))
        settings = plural(len(self.table.groups), "setting")
        return f"{counts}; {settings}, {words} {'seed' if words == '1' else 'seeds'} each"

    @property
    def verdicts(self) -> list[str]:
        """What can be said of the best, in sentences."""
        if self.verdict is None:
            return []
        best = self.verdict.best
        cell, what = best.cell(self.table.tasks), "mean" if len(self.table.tasks) > 1 else self.table.tasks[0]
        if not self.verdict.known:
            return [
                f"The highest {what} is {cell}, of {best.label}. No setting is marked as the best: without several "
                "seeds of a training, and with nothing kept of the tasks, nothing says how sure a difference is."
            ]
        tied = [row.group for row in self.rows if row.entries and self.verdict.tied(row.group)]
        others = len(self.verdict.gaps)
        first = f"Best {what}: {cell}, {best.label}."
        unknown = sum(gap.low is None for gap in self.verdict.gaps.values())
        if unknown:
            first += f" {plural(unknown, 'other')} kept nothing of the tasks and cannot be compared with it."
        if not tied:
            behind = "The other one is" if others == 1 else "All others are"
            return [first if unknown else f"{first} {behind} behind it."]
        names = "; ".join(f"{group.label}, {gap_text(self.verdict.gaps[group.settings])}" for group in tied[:SHOWN])
        more = f"; and {len(tied) - SHOWN} more" if len(tied) > SHOWN else ""
        return [first, f"{len(tied)} of {plural(others, 'other')} cannot be told from it: {names}{more}."]

    @property
    def method(self) -> str:
        """How the best is found, in sentences."""
        scores = "Scores are points of 100, mean ± standard deviation over seeds"
        if self.verdict is None or not self.verdict.known:
            return f"{scores}."
        of = " and ".join(sorted(self.verdict.of))
        return (
            f"{scores}. Bold is the best of its column, ≈ what cannot be told from it: the 95 % interval of the "
            f"difference, over {of} and for all comparisons with the best at once (Bonferroni), holds zero."
        )


def build_sheet(table: Table) -> Sheet:
    """Judge every column of a table."""
    judge = Judge(table)
    verdicts = {name: judge.verdict(tasks) for name, tasks in table.scored.items()}
    main = verdicts[MEAN] if MEAN in verdicts else next(iter(reversed(verdicts.values())), None)
    rows = []
    for group in table.groups:
        entries = {name: _entry(group, group.cell(tasks), verdicts[name]) for name, tasks in table.scored.items()}
        best = main is not None and main.known and main.best is group
        rows.append(Row(group, entries, None if main is None else main.gaps.get(group.settings), best))
    return Sheet(table, tuple(rows), main, tuple(notices(table)))


def gap_text(gap: Gap) -> str:
    """Return a difference with its interval."""
    if gap.low is None or gap.high is None:
        return signed(gap.difference)
    return f"{signed(gap.difference)} ({signed(gap.low)} to {signed(gap.high)})"


def _entry(group: Group, cell: Cell, verdict: Verdict | None) -> Entry:
    if verdict is None or not verdict.known or cell.mean is None:
        return Entry(cell, "")
    if verdict.best is group:
        return Entry(cell, "best")
    return Entry(cell, "tied" if verdict.tied(group) else "", verdict.gaps.get(group.settings))
