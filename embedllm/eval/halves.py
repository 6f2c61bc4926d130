"""How sure a difference between two clusterings of the same documents is: cluster halves of them.

The score of a clustering belongs to a sample of documents. Drawing documents again with replacement, as the bootstrap
does, cannot say how it varies: a copy lies where its original lies, and k-means finds clusters of copies. So random
halves are drawn without replacement, the same ones for both models, and each is clustered anew. The difference of two
scores varies over halves of one sample as much as over whole samples (half-sampling: Efron, 1982, "The Jackknife, the
Bootstrap and Other Resampling Plans", section 8.3), and its standard deviation gives the interval around the
difference that was found.

A half is clustered from several starts, so that what the start of k-means adds can be told from what the documents add:
a score is a mean over ten starts, and varies the less by them.

Legend: N documents, D width of the vectors, H halves, S starts of k-means on each.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedllm.eval.bootstrap import RESAMPLES

HALVES = 50
STARTS = 2
LARGEST = 2_048
"""Documents of a half at most; a smaller part of the documents varies more, which is known and taken back."""
RUNS = 10
"""Runs of k-means in a score of MTEB."""

Floats = npt.NDArray[np.float64]


def half_scores(vectors: npt.NDArray[np.float32], labels: Sequence[str]) -> Floats:
    """Return the V-measure, times 100, of each half of the documents from each start, (H, S).

    Halves and starts depend on N alone.

    Args:
        vectors: (N, D).
        labels: N classes.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import v_measure_score

    truth, clusters = np.unique(labels, return_inverse=True)[1], len(set(labels))
    scores = np.empty((HALVES, STARTS))
    for half in range(HALVES):
        rows = np.random.default_rng([half, len(labels)]).permutation(len(labels))[: half_size(len(labels))]
        for start in range(STARTS):
            model = KMeans(min(clusters, len(rows)), n_init=1, random_state=half * STARTS + start)
            scores[half, start] = 100 * v_measure_score(truth[rows], model.fit_predict(vectors[rows]))
    return scores


def half_size(documents: int) -> int:
    """Return how many of so many documents make a half."""
    return max(1, min(documents // 2, LARGEST))


def spread(differences: Floats, documents: int) -> float:
    """Return the standard deviation, over samples of documents, of the difference between two scores.

    Args:
        differences: (H, S) between the scores of the halves.
        documents: N.
    """
    by_start = differences.var(axis=1, ddof=1).mean()
    by_half = differences.mean(axis=1).var(ddof=1) - by_start / STARTS
    part = half_size(documents)
    by_documents = max(0.0, by_half) * part / max(1, documents - part)
    return float(np.sqrt(by_documents + by_start / RUNS))


def likely_differences(found: float, differences: Floats, documents: int) -> Floats:
    """Return what the difference may be in truth, as values of equal weight in rising order, (RESAMPLES,).

    They have Student's distribution around the difference that was found.

    Args:
        found: the difference of the two scores.
        differences: (H, S) between the scores of the halves.
        documents: N.
    """
    from scipy.stats import t

    steps = t.ppf((np.arange(RESAMPLES) + 0.5) / RESAMPLES, HALVES - 1)
    return np.asarray(found + spread(differences, documents) * steps)
