"""What is kept of a clustering besides its score: enough to compare it with another one, and to draw it.

Legend: N documents, R runs of k-means, D width of the vectors, P principal components that are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedllm.eval.bootstrap import Clusters
from embedllm.eval.stored import StoredArrays, digests

RUNS = 10
DRAWS = 16_384
"""Documents, with repetition, that one run of k-means is fitted to, as in MTEB."""
COMPONENTS = 32
"""Principal components of the vectors that are kept; a map in two dimensions shows no more than these hold."""


@dataclass(frozen=True)
class Evidence(StoredArrays):
    """A clustering, document by document."""

    labels: npt.NDArray[np.str_]
    """(N,) the classes."""
    clusters: Clusters
    """(R, N) the cluster of each document in each run."""
    components: npt.NDArray[np.float16]
    """(N, P) the vectors in their principal components, centred."""


def gather(texts: Sequence[str], labels: Sequence[str], vectors: npt.NDArray[np.float32]) -> Evidence:
    """Cluster N vectors (N, D) and return what is kept of it."""
    return Evidence(
        digests((text,) for text in texts), np.array(labels), cluster(vectors, labels), principal_components(vectors)
    )


def cluster(vectors: npt.NDArray[np.float32], labels: Sequence[str]) -> Clusters:
    """Return the cluster of each document in each run of k-means, (R, N) int16, with as many clusters as labels."""
    from sklearn.cluster import MiniBatchKMeans

    runs = []
    for seed in range(RUNS):
        drawn = np.random.default_rng(seed).integers(len(vectors), size=DRAWS)
        model = MiniBatchKMeans(len(set(labels)), batch_size=512, n_init=1, random_state=seed)
        runs.append(model.fit(vectors[drawn]).predict(vectors))
    return np.stack(runs).astype(np.int16)


def principal_components(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Return the centred vectors in their first principal components, (N, P) with P at most 32, N and D."""
    kept = min(COMPONENTS, *vectors.shape)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending; its sign is of no meaning
    reduced = centred @ directions[:, : -kept - 1 : -1]
    return np.asarray(reduced / max(1e-12, np.abs(reduced).max()), dtype=np.float16)
