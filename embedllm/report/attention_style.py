"""What the figures of the analysis share: colours of kinds and stages, legends and titles."""

import textwrap
from typing import Any

from embedllm.analysis.tokens import BOS, EOS, FIRST, PROMPT
from embedllm.analysis.words import CONTENT, PUNCTUATION, STOP
from embedllm.report.maps import COLOURS

KIND_COLOURS = {
    BOS: "#555555",
    FIRST: "#555555",
    PROMPT: "#8c8c8c",
    CONTENT: "#d55e00",
    STOP: "#0072b2",
    PUNCTUATION: "#009e73",
    EOS: "#555555",
}


def stage_colours(count: int) -> list[str]:
    """Return a colour for each stage: grey for the first of several, as it is what others are held against."""
    if count == 1:
        return [COLOURS[0]]
    return ["#a0a0a0", *(COLOURS[i % len(COLOURS)] for i in range(count - 1))]


def outside(entries: int) -> dict[str, Any]:
    """Return where a legend of so many entries stands: in one line above the axis, on the right."""
    return {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": min(entries, 6), "frameon": False, "borderpad": 0}


def plain(legend: Any) -> None:
    """Let dollar signs in the names of a legend be dollar signs."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def set_title(figure: Any, title: str) -> None:
    """Write a title that is not wider than the figure; dollar signs in it are dollar signs."""
    lines = textwrap.fill(title, int(12 * figure.get_figwidth()))
    figure.suptitle(lines, fontsize=11, parse_math=False)
