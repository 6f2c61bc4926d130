"""Positives out of what stands together: two spans of one document, two texts of one label."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from embedllm.data.augment import draw_index
from embedllm.data.formats import plain
from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Generator, Item, Rows
from embedllm.synth.gates.normal import cut_before, words

_CLOSING = r"\"'\u201d\u2019)\]\u300d\u300f\uff09"
_FULL = r"\u3002\uff01\uff1f"  # Chinese and Japanese, with no space after them
_END = re.compile(
    rf"(?<=[.!?])\s+|(?<=[.!?][{_CLOSING}])\s+|(?<=[{_FULL}])(?![{_FULL}{_CLOSING}])\s*|(?<=[{_FULL}][{_CLOSING}])\s*|\s*\n\s*"
)


@dataclass(frozen=True)
class Spans(Generator):
    """Two spans of one document that share no sentence; a document of one sentence is cut between words.

    Close to the independent cropping of Contriever (Izacard et al., 2021), with whole sentences.

    Args:
        sentences: the most sentences of a span.
        min_words: words that each span has at least.
    """

    sentences: int = 2
    min_words: int = 4
    name: str = "spans"

    def __post_init__(self) -> None:
        self.check_counts("sentences", "min_words")

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the spans as anchor and positive; documents too short for two have the reason ``too_short``."""
        return [self._draft(item) for item in items]

    def _draft(self, item: Item) -> Draft:
        units = self._units(item.text)
        rng = item.rng(self.name)
        if len(units) < 2:
            return Draft(item.row, item.copy, item.text, generator=self.name, style="spans", reason="too_short")
        cut = 1 + draw_index(len(units) - 1, rng)
        left, right = units[:cut], units[cut:]
        spans = [_joined(self._span(side, draw_index(len(side), rng))) for side in (left, right)]
        first, second = spans if rng.random() < 0.5 else reversed(spans)
        return Draft(item.row, item.copy, first, second, generator=self.name, style="spans")

    def _units(self, text: str) -> list[str]:
        """Return the different sentences of at least ``min_words`` words, or the two halves of a single long one."""
        found = [sentence for sentence in split_sentences(text) if len(words(sentence)) >= self.min_words]
        sentences = list(dict.fromkeys(found))
        whole = text if len(found) == 1 else "".join(sentences[:1])
        count = len(words(whole))
        if len(sentences) == 1 and count >= 2 * self.min_words:
            middle = cut_before(whole, count // 2)
            return [" ".join(half.split()) for half in (whole[:middle], whole[middle:])]
        return sentences

    def _span(self, side: Sequence[str], start: int) -> Sequence[str]:
        return side[start : start + self.sentences]


def split_sentences(text: str) -> list[str]:
    """Return the pieces of a text between ends of sentences and ends of lines; abbreviations may be cut too."""
    return [piece.strip() for piece in _END.split(text) if piece and piece.strip()]


def _joined(sentences: Sequence[str]) -> str:
    """Return sentences as a text, without a space after the full stops of Chinese and Japanese."""
    return "".join(s + ("" if re.search(rf"[{_FULL}][{_CLOSING}]?$", s) else " ") for s in sentences).strip()


@dataclass(frozen=True)
class SameLabel(Generator):
    """Another text of the same label: two sentences of one article, two questions of one intent.

    Args:
        label: column of the labels.
    """

    label: str
    name: str = "same_label"
    _groups: dict[str, list[str]] = field(
        default_factory=lambda: defaultdict(list), init=False, repr=False, compare=False
    )
    _before: dict[tuple[str, str], list[int]] = field(
        default_factory=lambda: defaultdict(list), init=False, repr=False, compare=False
    )
    """By label and text: for each place of the text in its group, how many other texts come before it."""

    @property
    def columns(self) -> Sequence[str]:
        """The column of labels."""
        return (self.label,)

    def prepare(self, rows: Rows) -> None:
        """Group the rows."""
        self._groups.clear()
        self._before.clear()
        for item in rows:
            if item.text:
                label = plain(item.fields[self.label])
                group, before = self._groups[label], self._before[label, item.text]
                before.append(len(group) - len(before))
                group.append(item.text)
        if all(len(group) < 2 for group in self._groups.values()):
            raise InputError(f"generator.label: no two texts have the same value in column {self.label!r}")

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return pairs of texts; one that is alone in its label has the reason ``alone``."""
        return [self._draft(item) for item in items]

    def _draft(self, item: Item) -> Draft:
        label = plain(item.fields[self.label])
        group, before = self._groups[label], self._before[label, item.text]
        base = Draft(item.row, item.copy, item.text, generator=self.name, style="same_label")
        if not label or len(before) == len(group):
            return base.refused("alone")
        chosen = draw_index(len(group) - len(before), item.rng(self.name))  # among the texts that are not this one
        return replace(base, positive=group[chosen + bisect_right(before, chosen)])
