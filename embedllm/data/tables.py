"""Training pairs: what one is, and which pair an index stands for in an epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from embedllm.data.augment import draw_index, keyed_rng


class Pair(NamedTuple):
    """Texts that belong together, as texts and not ids."""

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True)
class PairSummary:
    """What became of the rows of a source.

    Attributes:
        rows: rows read.
        pairs: pairs kept, or texts where there are no positives.
        empty: rows dropped because the anchor, the positive or the label was empty.
        duplicates: rows dropped because an equal one came before.
        singletons: texts dropped because no other text has their label.
        identical: pairs kept whose anchor is their positive; an augmenter is what tells the two apart.
    """

    rows: int
    pairs: int
    empty: int = 0
    duplicates: int = 0
    singletons: int = 0
    identical: int = 0

    def __str__(self) -> str:
        parts = (self.empty, "empty"), (self.duplicates, "duplicate"), (self.singletons, "alone in their label")
        dropped = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "none"
        return f"{self.pairs:,} pairs of {self.rows:,} rows (dropped: {dropped}; {self.identical:,} of equal texts)"


@dataclass(frozen=True)
class PairTable:
    """Pairs in the order of their source.

    Attributes:
        pairs: one for each index; they stand for themselves.
        summary: what was kept and dropped.
    """

    pairs: Sequence[Pair]
    summary: PairSummary

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int, *, seed: int, epoch: int) -> Pair:
        """Return the pair of ``index`` in ``epoch``, before augmentation."""
        return self.pairs[index]


@dataclass(frozen=True)
class LabelTable(PairTable):
    """Labelled texts: the positive of a text is another one of its label, drawn anew in every epoch.

    Attributes:
        pairs: each text as anchor and as positive; every label has at least two of them.
        groups: indices of the texts of each label.
    """

    groups: Mapping[str | None, Sequence[int]] = field(repr=False)

    def draw(self, index: int, *, seed: int, epoch: int) -> Pair:
        """Return the text of ``index`` with a positive that ``(seed, epoch, index)`` alone decides."""
        pair = self.pairs[index]
        group = self.groups[pair.label]
        other = group[draw_index(len(group) - 1, keyed_rng(seed, epoch, index, "positive"))]
        return pair._replace(positive=self.pairs[group[-1] if other == index else other].anchor)
