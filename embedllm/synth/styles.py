"""What a language model is asked for: an instruction for chat models, a continuation for base decoders."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedllm.data.augment import draw_index
from embedllm.errors import InputError, unknown
from embedllm.synth.draft import Item


@dataclass(frozen=True)
class Style:
    """One way to make a positive.

    Attributes:
        instruction: what a chat model is told; the text follows in quotes.
        cue: what a base decoder continues after the text, as in ``Paraphrase: "``.
        length: characters of the positive for one of the anchor, lowest and highest; None: those of the gate.
        asks: whether a question is wanted.
    """

    instruction: str
    cue: str
    length: tuple[float, float] | None = None
    asks: bool = False


STYLES: dict[str, Style] = {
    "paraphrase": Style(
        "Rewrite the text in other words. Keep its meaning and about its length. Answer with the rewritten text only.",
        "The same in other words",
    ),
    "simplify": Style(
        "Rewrite the text in plain, short words that a child understands. Answer with the rewritten text only.",
        "The same in plain words",
        (0.2, 1.8),
    ),
    "expand": Style(
        "Rewrite the text with a little more detail, in at most two sentences. Answer with the rewritten text only.",
        "The same with more detail",
        (0.8, 5.0),
    ),
    "title": Style("Write a short title for the text. Answer with the title only.", "Title", (0.03, 1.2)),
    "summary": Style(
        "Sum the text up in one short sentence. Answer with that sentence only.", "In one short sentence", (0.1, 1.2)
    ),
    "keywords": Style(
        "List the three to six most important keywords of the text, separated by commas. Answer with the list only.",
        "Keywords",
        (0.03, 1.2),
    ),
    "topic": Style(
        "Write another sentence on the topic of the text, one that says something else. Answer with the sentence only.",
        "Another sentence on the same topic",
        (0.2, 4.0),
    ),
    "paper_detail": Style(
        "Say the same as the text, with more detail. Answer with the new sentence only.", "In more detail", (0.8, 5.0)
    ),
    "paper_simple": Style(
        "Say the same as the text, in simpler language. Answer with the new sentence only.",
        "In simpler language",
        (0.2, 1.8),
    ),
    "paper_teacher": Style(
        "You teach at a high school. Explain the text to your class in your own words. Answer with that only.",
        "A teacher explains it",
        (0.4, 5.0),
    ),
    "paper_metaphor": Style(
        "Find a metaphor for the idea of the text. Answer with the metaphor only.", "As a metaphor", (0.1, 3.0)
    ),
    "paper_question": Style(
        "Which question comes to mind after reading the text? Answer with the question only.",
        "A question about it",
        (0.1, 3.0),
        asks=True,
    ),
}
"""Styles by name. Those that begin with ``paper_`` are what arXiv 2507.22729 asked its generator for, in our words."""


def check_styles(names: object, setting: str = "generator.styles") -> tuple[str, ...]:
    """Return the styles asked for.

    Raises:
        InputError: there are none, or one is unknown.
    """
    if isinstance(names, str) or not isinstance(names, list | tuple) or not names:
        raise InputError(f"{setting}: {names!r} is not a list of styles; there are: {', '.join(STYLES)}")
    for name in names:
        if name not in STYLES:
            raise InputError(unknown(f"{setting}.{name}", [f"{setting}.{known}" for known in STYLES]))
    return tuple(names)


def drawn_style(item: Item, styles: Sequence[str]) -> str:
    """Return the style of an item: drawn for its row, and for the next copy the next one of the list."""
    first = draw_index(len(styles), Item(item.row, item.text, item.seed).rng("style"))
    return styles[(first + item.copy) % len(styles)]
