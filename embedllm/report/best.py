"""Which settings are best in a study, and which others cannot be told from them.

The difference of a group of runs to the best one varies for two reasons. With other documents of the kind, both scores
would be others: what the runs keep of each task says by how much (:mod:`embedllm.eval.paired`), the same documents for
both groups. And with other seeds, the trainings would end elsewhere: the spread of the runs of a group says by how
much, pooled over all trained groups that have several seeds, as in an analysis of variance; a model that is scored as
it comes is the same with every seed. The two variances are added, their degrees of freedom too (Satterthwaite, 1946),
and Student's distribution gives an interval.

The best of many is picked for its score, so its lead is too large on average. The intervals therefore hold for all
comparisons with it at once (Bonferroni): with 95 % confidence the truly best settings are among those that are called
best or not told from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embedllm.report.columns import documents
from embedllm.report.groups import Group, Table
from embedllm.report.samples import Sampled, sample, variance_of

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gap:
    """How far a group is behind the best, in points of 100."""

    difference: float
    """Its score minus that of the best: zero or less."""
    low: float | None = None
    """Bounds of the interval; None where it is not known how sure the difference is."""
    high: float | None = None

    @property
    def behind(self) -> bool:
        """Whether the whole interval is below zero."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Verdict:
    """The best group on some tasks, and the others beside it."""

    best: Group
    gaps: dict[tuple[str, ...], Gap]
    """By the settings of a group; only of groups that compare: with a score, on the same documents."""
    of: frozenset[str]
    """What the intervals speak of: ``documents``, ``seeds``, both or nothing."""

    @property
    def known(self) -> bool:
        """Whether anything says how sure the differences are."""
        return bool(self.of)

    def tied(self, group: Group) -> bool:
        """Return whether a group compares with the best and cannot be told from it."""
        gap = self.gaps.get(group.settings)
        return gap is not None and gap.high is not None and not gap.behind


class Judge:
    """Finds the best groups of a table; what the runs keep of their tasks is read once."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._known: dict[Path, Sampled | None] = {}

    def verdict(self, tasks: Sequence[str]) -> Verdict | None:
        """Return the best group on ``tasks``; None if fewer than two groups compare."""
        scored = [group for group in self.table.groups if group.cell(tasks).mean is not None]
        best = max(scored, key=lambda group: group.cell(tasks).mean or 0.0, default=None)
        if best is None:
            return None
        rivals = [group for group in scored if group is not best and _same_documents(best, group, tasks)]
        seeds = _pooled(scored, tasks)
        reasons = {}
        for group in rivals:
            found = (self._by_documents(best, group, tasks), _by_seeds(best, group, tasks, seeds))
            reasons[group.settings] = [part for part in found if part is not None]
        of = frozenset(part.of for parts in reasons.values() for part in parts)
        gaps = {}
        for group in rivals:  # one that lacks a reason that others have would have an interval that is too short
            parts = reasons[group.settings] if len(reasons[group.settings]) == len(of) else []
            gaps[group.settings] = _gap(group.cell(tasks).mean, best.cell(tasks).mean, parts, len(rivals))
        return Verdict(best, gaps, of) if rivals else None

    def _by_documents(self, best: Group, group: Group, tasks: Sequence[str]) -> "_Part | None":
        """Return how the difference of two means varies with the documents, those of each task drawn by themselves."""
        parts = []
        for task in tasks:
            a, b = self._sampled(best, task), self._sampled(group, task)
            if a is None or b is None or a.key != b.key:
                return None
            parts.append(variance_of(b.scores - a.scores, a.documents))
        variances = [variance / len(tasks) ** 2 for variance, _ in parts]
        return _Part("documents", *_added(variances, [freedom for _, freedom in parts]))

    def _sampled(self, group: Group, task: str) -> Sampled | None:
        found = [self._read(run.folder.evidence("after", task)) for run in group.runs if run.score(task) is not None]
        known = [sampled for sampled in found if sampled is not None]
        if not known or len(known) < len(found) or len({sampled.key for sampled in known}) > 1:
            return None
        return replace(known[0], scores=np.mean([sampled.scores for sampled in known], axis=0))

    def _read(self, path: Path) -> Sampled | None:
        if path not in self._known:
            self._known[path] = sample(path)
        return self._known[path]


@dataclass(frozen=True)
class _Part:
    """A reason why a difference varies."""

    of: str
    variance: float
    freedom: float


def _gap(score: float | None, best: float | None, parts: Sequence[_Part], comparisons: int) -> Gap:
    difference = (score or 0.0) - (best or 0.0)
    if not parts:
        return Gap(difference)
    from scipy.special import stdtrit  # a hundredth of the time that scipy.stats takes to import

    variance, freedom = _added([part.variance for part in parts], [part.freedom for part in parts])
    if variance == 0 and difference != 0:  # two models that no seed changes, and nothing kept of the tasks
        return Gap(difference)
    reach = float(stdtrit(freedom, 1 - (1 - CONFIDENCE) / (2 * comparisons))) * math.sqrt(variance)
    return Gap(difference, difference - reach, difference + reach)


def _added(variances: Sequence[float], freedoms: Sequence[float]) -> tuple[float, float]:
    """Return the variance of a sum and its degrees of freedom."""
    total = math.fsum(variances)
    squares = math.fsum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return total, (total**2 / squares if squares else float(min(freedoms)))


def _same_documents(best: Group, group: Group, tasks: Sequence[str]) -> bool:
    return all(len(documents((*best.runs, *group.runs), task)) < 2 for task in tasks)


def _pooled(groups: Sequence[Group], tasks: Sequence[str]) -> tuple[float, int]:
    """Return the variance over seeds within the groups that were trained, and its degrees of freedom."""
    cells = [cell for group in groups if _is_trained(group) and (cell := group.cell(tasks)).sd is not None]
    freedom = sum(len(cell.values) - 1 for cell in cells)
    squares = math.fsum((cell.sd or 0.0) ** 2 * (len(cell.values) - 1) for cell in cells)
    return (squares / freedom if freedom else 0.0), freedom


def _by_seeds(best: Group, group: Group, tasks: Sequence[str], pooled: tuple[float, int]) -> _Part | None:
    variance, freedom = pooled
    if not freedom:
        return None
    trained = [one for one in (best, group) if _is_trained(one)]
    return _Part("seeds", variance * sum(1 / len(one.cell(tasks).values) for one in trained), freedom)


def _is_trained(group: Group) -> bool:
    """Return whether the seed can make a difference to its runs."""
    return any(run.training_steps != 0 for run in group.runs)
