"""The gate on pairs whose texts mean too little of the same, or are too much the same, to a frozen embedder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedllm.errors import InputError, renamed
from embedllm.synth.draft import Draft

if TYPE_CHECKING:  # most runs of word-level generators need no model
    from embedllm.embedder import Embedder


@dataclass
class Similarity:
    """Cosine of anchor and positive under an embedder that is not trained on them, kept as score ``similarity``.

    A bare decoder pools the mean of its last layer, and the mean vector of a fixed corpus is subtracted: without that
    all cosines are near 0.9. The embedded decoder then gives 100 human simplifications (ASSET) 0.49 to 1.00 (1st and
    99th percentile; median 0.90) and random pairs of them -0.45 to 0.66 (median 0.04).

    Args:
        model: a run, a saved model or a decoder.
        low: cosine below which a pair goes.
        high: cosine above which it goes.
        written_only: look only at positives that a language model wrote.
        max_length: tokens of a bare decoder's texts that are read.
    """

    model: str = "embedded:smollm2_135m"
    low: float = 0.5
    high: float = 0.99
    written_only: bool = True
    max_length: int = 256
    name = "similarity"
    whole_file = False
    _embedder: "Embedder | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not -1 <= self.low < self.high <= 1:
            raise InputError(f"gates.similarity: low={self.low} and high={self.high} are no band within -1 and 1")

    def prepare(self, written: bool) -> None:
        """Find the model if there will be pairs for it; its weights load with the first of them."""
        if self.written_only and not written:
            return
        from embedllm.backbone import load_config
        from embedllm.embedder import find_saved

        if find_saved(self.model) is None:
            with renamed({"model.name": "gates.similarity.model"}):
                load_config(self.model)

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts with the score, those outside the band refused."""
        judged = list(drafts)
        chosen = [i for i, draft in enumerate(drafts) if not draft.reason and (draft.written or not self.written_only)]
        if not chosen:
            return judged
        texts = [text for i in chosen for text in (drafts[i].anchor, drafts[i].positive)]
        vectors = self._loaded().encode(texts)  # (2 * pairs, D)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        for i, cosine in zip(chosen, (vectors[::2] * vectors[1::2]).sum(axis=1), strict=True):
            draft = drafts[i].scored(similarity=cosine)
            judged[i] = draft if self.low <= draft.scores["similarity"] <= self.high else draft.refused(self.name)
        return judged

    def _loaded(self) -> "Embedder":
        if self._embedder is None:
            self._embedder = load_frozen(self.model, self.max_length, "gates.similarity.model")
        return self._embedder


def load_frozen(model: str, max_length: int, setting: str) -> "Embedder":
    """Return the embedder of a run or a saved model; a bare decoder pools the mean and is centred.

    Args:
        model: as for :class:`Similarity`.
        max_length: likewise.
        setting: where the model was typed.
    """
    from embedllm.embedder import Embedder, ModelSpec, find_saved

    with renamed({"model.name": setting}):
        if find_saved(model) is not None:
            return Embedder.load(model).to_accelerator()
        embedder = Embedder.from_pretrained(ModelSpec(model, max_length=max_length)).to_accelerator()
        embedder.centre()
        return embedder
