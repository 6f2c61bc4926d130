"""Positives out of natural language inference: what a premise entails; what contradicts it is a hard negative."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from embedllm.data.augment import draw_index
from embedllm.data.formats import plain
from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Generator, Item, Rows
from embedllm.synth.gates.normal import normalised

ENTAILMENT = ("entailment", "entails", "0")
CONTRADICTION = ("contradiction", "contradicts", "2")


@dataclass(frozen=True)
class Nli(Generator):
    """Pairs of a file with one premise, hypothesis and label a row; the premise is the column of the texts.

    Each entailed hypothesis is a positive; the contradictions of the same premise are its hard negatives, as in SimCSE
    (Gao et al., 2021). Rows of other labels make no pair and have the reason ``not_entailed``.

    Args:
        hypothesis: column of the hypotheses.
        label: column of the labels.
        entailment: labels that mean it, in any letter case.
        contradiction: likewise.
        negatives: the most hard negatives of a pair.
        require_negative: keep only pairs that have one.
    """

    hypothesis: str = "hypothesis"
    label: str = "label"
    entailment: Sequence[str] = ENTAILMENT
    contradiction: Sequence[str] = CONTRADICTION
    negatives: int = 1
    require_negative: bool = False
    name: str = "nli"
    _against: dict[str, list[str]] = field(
        default_factory=lambda: defaultdict(list), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for setting in ("entailment", "contradiction"):
            labels = getattr(self, setting)
            if not isinstance(labels, list | tuple):
                raise InputError(f"generator.{setting}: {labels!r} is not a list of labels; write [{labels}]")
            object.__setattr__(self, setting, tuple(plain(label).casefold() for label in labels))
        if self.negatives < 0:
            raise InputError(f"generator.negatives: {self.negatives} is not allowed; the lowest value is 0")

    @property
    def columns(self) -> Sequence[str]:
        """The columns of hypotheses and labels."""
        return (self.hypothesis, self.label)

    def prepare(self, rows: Rows) -> None:
        """Gather the contradictions of each premise, without those that somebody else took for entailments."""
        self._against.clear()
        labels: set[str] = set()
        entailed: dict[str, set[str]] = defaultdict(set)
        for item in rows:
            label, hypothesis = self._told(item)
            labels.add(label)
            if label in self.entailment:
                entailed[item.text].add(normalised(hypothesis))
            if label in self.contradiction and hypothesis and hypothesis not in self._against[item.text]:
                self._against[item.text].append(hypothesis)
        for premise, texts in self._against.items():
            texts[:] = [text for text in texts if normalised(text) not in entailed[premise]]
        if not labels & set(self.entailment):
            found = ", ".join(sorted(labels)[:5])
            raise InputError(
                f"generator.entailment: no row has one of {', '.join(self.entailment)} in column {self.label!r} "
                f"(found: {found})"
            )

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the pairs of the entailed rows."""
        return [self._draft(item) for item in items]

    def _draft(self, item: Item) -> Draft:
        label, positive = self._told(item)
        against = list(self._against[item.text])
        rng = item.rng(self.name)
        chosen = [against.pop(draw_index(len(against), rng)) for _ in range(min(self.negatives, len(against)))]
        reason = ""
        if label not in self.entailment:
            reason, chosen = "not_entailed", []
        elif self.require_negative and not chosen:
            reason = "no_negative"
        return Draft(
            item.row, item.copy, item.text, positive, tuple(chosen), self.name, style="entailment", reason=reason
        )

    def _told(self, item: Item) -> tuple[str, str]:
        """Return the label and the hypothesis of a row."""
        return plain(item.fields[self.label]).casefold(), plain(item.fields[self.hypothesis])
