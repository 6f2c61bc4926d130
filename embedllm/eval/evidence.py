"""What is kept of a clustering besides its score: enough to compare it with another one, and to draw it.

Legend: N documents, D width of the vectors, P principal components that are kept, H and S as in
:mod:`embedllm.eval.halves`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedllm.eval.halves import half_scores
from embedllm.eval.stored import StoredArrays, digests

COMPONENTS = 32
"""Principal components of the vectors that are kept; a map in two dimensions shows no more than these hold."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence(StoredArrays):
    """A clustering, document by document."""

    labels: npt.NDArray[np.str_]
    """(N,) the classes."""
    score: Floats
    """() the V-measure as mteb has it, times 100."""
    halves: Floats
    """(H, S) the V-measure of halves of the documents."""
    components: npt.NDArray[np.float16]
    """(N, P) the vectors in their principal components, centred."""


def gather(texts: Sequence[str], labels: Sequence[str], vectors: npt.NDArray[np.float32], score: float) -> Evidence:
    """Return what is kept of the clustering of N vectors (N, D) that has this score."""
    return Evidence(
        documents=digests((text,) for text in texts),
        labels=np.array(labels),
        score=np.array(score),
        halves=half_scores(vectors, labels),
        components=principal_components(vectors),
    )


def principal_components(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Return the centred vectors in their first principal components, (N, P) with P at most 32, N and D."""
    kept = min(COMPONENTS, *vectors.shape)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending; its sign is of no meaning
    reduced = centred @ directions[:, : -kept - 1 : -1]
    return np.asarray(reduced / max(1e-12, np.abs(reduced).max()), dtype=np.float16)
