"""The gate on texts that a model will be scored on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from embedllm.errors import InputError
from embedllm.synth.draft import Draft
from embedllm.synth.gates.evaluation_texts import evaluation_texts
from embedllm.synth.gates.normal import NearTexts, normalised, shingles


@dataclass
class Contamination:
    """A text that equals one of an evaluation task, is near one, or shares a long run of words with one.

    Args:
        tasks: as for ``eval.tasks``: MTEB names and files.
        near: Jaccard similarity of character 5-grams from which two texts are near.
        run: words in a row, the same in both, that are too many (Brown et al., 2020, took 13).
        drop: False: keep such pairs, and give them the score ``contaminated``.
    """

    tasks: Sequence[str] = ("embedded:wordnet_definitions",)
    near: float = 0.8
    run: int = 13
    drop: bool = True
    name = "contamination"
    whole_file = False
    _index: "EvaluationIndex | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.near <= 1:
            raise InputError(f"gates.contamination.near: {self.near} is not above 0 and at most 1")
        if self.run < 1:
            raise InputError(f"gates.contamination.run: {self.run} is not allowed; the lowest value is 1")

    def prepare(self, written: bool) -> None:
        """Read the tasks."""
        if self._index is None:
            self._index = EvaluationIndex(evaluation_texts(self.tasks), self.near, self.run)

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts, those with such a text refused or marked."""
        return [draft if draft.reason else self._judged(draft) for draft in drafts]

    def _judged(self, draft: Draft) -> Draft:
        self.prepare(draft.written)
        if not any(self._index and self._index.has(text) for text in (draft.anchor, draft.positive, *draft.negatives)):
            return draft
        return draft.refused(self.name) if self.drop else draft.scored(contaminated=1)


class EvaluationIndex:
    """Texts of evaluation tasks, to look others up in.

    Args:
        texts: of the tasks.
        near: as for :class:`Contamination`.
        run: likewise.
    """

    def __init__(self, texts: Sequence[str], near: float, run: int) -> None:
        self.run = run
        self._near = NearTexts(near)
        self._near.add_all(texts)
        self._exact = {normalised(text) for text in texts}
        self._runs = {words for text in texts for words in self._word_runs(text)}

    def has(self, text: str) -> bool:
        """Return whether the text, one near it or a long run of its words is in the tasks."""
        if normalised(text) in self._exact or any(True for _ in self._near.near(shingles(text))):
            return True
        return any(words in self._runs for words in self._word_runs(text))

    def _word_runs(self, text: str) -> Iterator[str]:
        words = normalised(text).split()
        for start in range(len(words) - self.run + 1):
            yield " ".join(words[start : start + self.run])
