"""A plain-text table of results: what varies between the runs, one column a task, the mean."""

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]

NAMED = {"pooling._target_": "pooling", "prompt.template": "prompt", "model.name": "model"}
"""Settings that a table shows by the name of the option that was chosen."""

FIRST = ("model", "pooling", "prompt")
"""Columns that come before the others."""

ASIDE = ("study", "runs_dir", "eval", "logger", "export", "dry_run", "trainer.devices")
"""Settings that do not tell one result from another."""


def results_table(results: Sequence[Result]) -> str:
    """Return a table with one row for each result.

    ``-`` stands for a score that is missing, ``incomplete`` for a mean that lacks a task of the table.
    """
    settings = [flat_settings(result) for result in results]
    names = dict.fromkeys([*FIRST, *(name for row in settings for name in row)])
    varying = [name for name in names if len({str(row.get(name)) for row in settings}) > 1]
    columns = varying or ["pooling", "prompt"]
    tasks = list(dict.fromkeys(task for result in results for task in result["tasks"]))
    header = [*columns, *tasks, *(["mean"] if len(tasks) > 1 else [])]
    rows = []
    for result, row in zip(results, settings, strict=True):
        scores = [result["tasks"].get(task, {}).get("main_score") for task in tasks]
        means = [mean_cell(scores)] if len(tasks) > 1 else []
        rows.append([*(str(row.get(name, "-")) for name in columns), *map(_number, scores), *means])
    return aligned([header, *rows], left=len(columns))


def mean_cell(scores: Sequence[float | None], decimals: int = 1) -> str:
    """Return the mean of scores for a table, or ``incomplete`` if one of them is missing."""
    known = [score for score in scores if score is not None]
    return f"{sum(known) / len(known):.{decimals}f}" if known and len(known) == len(scores) else "incomplete"


def gains_table(result: Result) -> str:
    """Return a table of the scores before and after a training, with the interval of the difference."""
    rows = [["task", "before", "after", "difference", "95 % interval"]]
    for name, task in result["tasks"].items():
        before, after, gain = task.get("before"), task.get("main_score"), task.get("gain")
        difference = None if before is None or after is None else after - before
        interval = "-" if gain is None else f"{gain['low']:+.1f} to {gain['high']:+.1f}"
        signed = "-" if difference is None else f"{difference:+.1f}"
        rows.append([name, _number(before), _number(after), signed, interval])
    return aligned(rows, left=1)


def flat_settings(result: Result) -> dict[str, Any]:
    """Return the settings of a result as ``{"loss.temperature": 0.1, "pooling": "mean", ...}``."""
    flat = flatten(result["config"])
    kept = {name: value for name, value in flat.items() if not name.startswith(ASIDE)}
    return {NAMED.get(name, name): result["choices"].get(NAMED.get(name, ""), value) for name, value in kept.items()}


def aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Return ``rows`` in columns, the first ``left`` of them aligned to the left, with a rule below the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def flatten(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested settings as ``{"a.b": value}``."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return flat


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"
