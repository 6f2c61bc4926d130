"""Plain-text tables, and the cells and names that they share with other tables."""

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]

NAMED = {"pooling._target_": "pooling", "prompt.template": "prompt", "model.name": "model"}
"""Settings that a table shows by the name of the option that was chosen."""

FIRST = ("model", "pooling", "prompt")
"""Columns that come before the others."""


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
