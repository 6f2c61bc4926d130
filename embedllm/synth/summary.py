"""An inspection as text for the terminal."""

from embedllm.report.tables import aligned
from embedllm.synth.inspection import Histogram, Inspection

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 110  # characters of a text that are shown


def summary(found: Inspection) -> str:
    """Return the report."""
    parts = [f"{found.name}: {found.pairs:,} pairs"]
    parts.append(_table("style", [(style, count) for style, count in found.styles.items()]))
    if found.notes:
        removed = sorted(found.notes.get("removed", {}).items())
        parts.append(_table("removed by", removed) if removed else "removed by gates: nothing")
    parts.append("\n".join(_line(histogram) for histogram in found.histograms))
    parts.append(_table("repeats", list(found.duplicates)))
    parts.append(_table("pairs with a text of", list(found.overlaps.items())))
    for style, rows in found.examples.items():
        lines = [f"  {_short(row['anchor'])}\n    -> {_short(row['positive'])}" for row in rows]
        parts.append("\n".join([f"{style}:", *lines]))
    return "\n\n".join(part for part in parts if part)


def _table(title: str, counts: list[tuple[str, int]]) -> str:
    return aligned([[title, "pairs"], *([name, f"{count:,}"] for name, count in counts)], left=1) if counts else ""


def _line(histogram: Histogram) -> str:
    top = max(*histogram.counts, 1)
    bars = "".join(_BARS[-(-count * 8 // top)] for count in histogram.counts)
    low, high = f"{histogram.edges[0]:.3g}", f"{histogram.edges[-1]:.3g}"
    return f"{low:>5} {bars} {high:<5} {histogram.title} (median {histogram.median:.3g})"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
