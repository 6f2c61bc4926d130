"""What is kept of a classification: which documents each of MTEB's experiments classifies rightly.

Legend: N test documents, R experiments (each trains on other documents), B resamples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedllm.eval.bootstrap import Draws, Floats
from embedllm.eval.stored import StoredArrays


@dataclass(frozen=True)
class ClassificationEvidence(StoredArrays):
    """A classification, document by document; its score is the mean accuracy of its experiments."""

    correct: npt.NDArray[np.bool_]
    """(R, N) whether the document was classified rightly. Experiment r trains on the same documents for all models."""

    @property
    def runs(self) -> int:
        """R."""
        return len(self.correct)

    def scores(self, block: Draws) -> Floats:
        """Return the score of each resample of documents and experiments, times 100, (B,)."""
        accuracies = block.weights @ self.correct.T / block.weights.sum(axis=1, keepdims=True)  # (B, R)
        means: Floats = 100 * np.take_along_axis(accuracies, block.runs, axis=1).mean(axis=1)
        return means
