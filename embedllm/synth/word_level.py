"""Positives out of the words of the text itself: noise, and the text once more."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedllm.data.augment import Augmenter, Compose, WordDeletion, WordSwap
from embedllm.errors import renamed
from embedllm.synth.draft import Draft, Generator, Item, Rows


@dataclass(frozen=True)
class WordNoise(Generator):
    """Delete and exchange words (EDA: Wei & Zou, 2019), or whatever ``augment`` does to a text.

    Args:
        augment: applied to each text; None: delete and swap words with probability ``p`` each.
        p: for the default.
    """

    augment: Augmenter | None = None
    p: float = 0.1
    name: str = "word_noise"

    def prepare(self, rows: Rows) -> None:
        """Build the augmenter, which refuses a wrong ``p``."""
        with renamed({"data.augment.p": "generator.p"}):
            self._augmenter()

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return noisy copies; a text that comes back as it was has the reason ``unchanged``."""
        return [self._draft(item) for item in items]

    def _draft(self, item: Item) -> Draft:
        positive = self._augmenter()(item.text, item.rng(self.name))
        reason = "unchanged" if positive == item.text else ""
        return Draft(item.row, item.copy, item.text, positive, generator=self.name, style="noise", reason=reason)

    def _augmenter(self) -> Augmenter:
        return self.augment or Compose([WordDeletion(self.p), WordSwap(self.p)])


@dataclass(frozen=True)
class Dropout(Generator):
    """The text itself: dropout alone tells the two views apart in training (SimCSE: Gao et al., 2021)."""

    name: str = "dropout"

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return each text as its own positive."""
        return [Draft(i.row, i.copy, i.text, i.text, generator=self.name, style="same") for i in items]
