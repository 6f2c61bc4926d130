"""Two finished runs side by side: for each task both scores, and how sure their difference is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedllm.errors import InputError
from embedllm.eval.bootstrap import Floats, interval
from embedllm.eval.paired import AnyEvidence, comparable, differences, load_evidence
from embedllm.eval.suites import describe
from embedllm.report.tables import aligned
from embedllm.runs import RunFolder
from embedllm.scoring import mteb_versions, typed, with_versions

HEADER = ["task", "A", "B", "difference", "95 % interval", "verdict"]

Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One task, or the mean of several; scores are points of 100."""

    name: str
    a: float
    b: float
    low: float | None = None
    """Lower bound of the 95 % interval of B minus A; None where no evidence of the task is kept."""
    high: float | None = None

    @property
    def difference(self) -> float:
        """B minus A."""
        return self.b - self.a

    @property
    def verdict(self) -> str:
        """Which run is better; only said where the whole interval is on the side of the difference itself."""
        if self.low is None or self.high is None:
            return "not known"
        if self.difference > 0 and self.low > 0:
            return "B is better"
        return "A is better" if self.difference < 0 and self.high < 0 else "no difference shown"

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known of the row, for machines."""
        return {**asdict(self), "difference": self.difference, "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """Everything that two runs can be compared on."""

    rows: tuple[Row, ...]
    mean: Row | None
    """Over the rows with an interval; None unless there are two or more."""
    mean_of: str | None
    """The suite, number and sample of its tasks, and mteb's version."""
    left_out: dict[str, str]
    """Why other tasks are not compared, by task."""

    def table(self) -> str:
        """Return the rows in columns, and a line for each task that is left out."""
        rows = [*self.rows, *([self.mean] if self.mean else [])]
        lines = [aligned([HEADER, *map(_cells, rows)], left=1)] if rows else []
        lines += [f"{task}: not compared, {reason}" for task, reason in self.left_out.items()]
        return "\n".join([*lines, *([f"\ntasks of the mean: {self.mean_of}"] if self.mean_of else [])])

    def as_dict(self) -> dict[str, Any]:
        """Return the same for machines."""
        mean = None if self.mean is None else self.mean.as_dict()
        rows = [row.as_dict() for row in self.rows]
        return {"tasks": rows, "mean": mean, "mean_of": self.mean_of, "not_compared": self.left_out}


def compare(a: RunFolder, b: RunFolder, tasks: Sequence[str] | None = None) -> Comparison:
    """Compare two finished runs on all tasks that either has, or on those named.

    The intervals come from a paired bootstrap over documents (:mod:`embedllm.eval.bootstrap`), and for clusterings from
    halves of the documents (:mod:`embedllm.eval.halves`). That of the mean draws the documents of each task apart from
    those of the others; it speaks of these tasks, not of tasks in general.

    Raises:
        InputError: a run is not finished, or neither has a task of that name.
    """
    entries = [_entries(folder) for folder in (a, b)]
    known = list(dict.fromkeys([*entries[0], *entries[1]]))
    for task in tasks or ():
        if task not in known:
            raise InputError(f"--tasks: {task!r} is in neither run; there are: {', '.join(known) or 'none'}")
    rows, resampled, left_out = [], [], {}
    for task in dict.fromkeys(tasks or known):
        evidence = [load_evidence(folder.evidence("after", task)) for folder in (a, b)]
        if reason := _hindrance(task, entries, evidence):
            left_out[task] = reason
            continue
        score_a, score_b = (float(side[task]["main_score"]) for side in entries)
        if evidence[0] is None or evidence[1] is None:
            rows.append(Row(task, score_a, score_b))
        else:
            resampled.append(differences(evidence[0], evidence[1]))
            rows.append(Row(task, score_a, score_b, *interval(resampled[-1])))
    known_rows = [row for row in rows if row.low is not None]
    mean = _mean(known_rows, resampled, len(rows) + len(left_out))
    mean_of = None if mean is None else ", and ".join(_described([row.name for row in known_rows], entries))
    return Comparison(tuple(rows), mean, mean_of, left_out)


def _entries(folder: RunFolder) -> Entries:
    result = folder.read_result()
    if result is None:
        raise InputError(f"RUN: {str(folder.path)!r} is not the folder of a finished run")
    return with_versions(result["tasks"], result)


def _hindrance(task: str, entries: Sequence[Entries], evidence: Sequence[AnyEvidence | None]) -> str | None:
    """Return why the scores of a task cannot be compared; None if they can."""
    for name, side in zip("AB", entries, strict=True):
        if task not in side:
            return f"{name} was not scored on it"
        if "main_score" not in side[task]:
            return f"{name} has no score ({side[task].get('error', 'unknown')})"
    (a, b), (first, second) = (side[task] for side in entries), evidence
    sources = [{**entry.get("of", {}), "max_documents": None} for entry in (a, b)]
    same = a.get("metric") == b.get("metric") and sources[0] == sources[1]
    if first is not None and second is not None:  # two sizes of sample may be the same documents
        same = same and comparable(first, second)
    else:
        same = same and a.get("of") == b.get("of")
    return None if same else "A and B were scored on other documents"


def _described(tasks: Sequence[str], entries: Sequence[Entries]) -> Iterator[str]:
    """Yield what is to be said of the tasks of a mean, once for each size of sample."""
    of = {task: entries[0][task].get("of", {}) for task in tasks}
    for sample in dict.fromkeys(found.get("max_documents") for found in of.values()):
        chosen = [task for task in tasks if of[task].get("max_documents") == sample]
        mirror = next((of[task]["mirror"] for task in chosen if "mirror" in of[task]), None)
        mteb = mteb_versions(side[task] for side in entries for task in chosen)
        yield describe([typed(task, of[task]) for task in chosen], sample, mirror=mirror, mteb_version=mteb)


def _mean(rows: Sequence[Row], resampled: Sequence[Floats], asked: int) -> Row | None:
    """Return the mean row; its name says if it lacks some of the tasks that were asked for.

    Resample k draws the same places of every task. Put into an order of its own, each task is drawn by itself.
    """
    if len(rows) < 2:
        return None
    rng = np.random.default_rng(0)
    low, high = interval(np.mean([rng.permutation(differences) for differences in resampled], axis=0))
    a, b = (float(np.mean(scores)) for scores in zip(*((row.a, row.b) for row in rows), strict=True))
    of = f"{len(rows)}" if len(rows) == asked else f"{len(rows)} of {asked}, incomplete"
    return Row(f"mean of {of}", a, b, low, high)


def _cells(row: Row) -> list[str]:
    bounds = "-" if row.low is None else f"{row.low:+.1f} to {row.high:+.1f}"
    return [row.name, f"{row.a:.1f}", f"{row.b:.1f}", f"{row.difference:+.1f}", bounds, row.verdict]
