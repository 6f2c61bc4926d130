"""How sure a difference between two clusterings of the same documents is.

A score is one number; whether 41.2 is better than 40.7 depends on the documents. So the clusters that k-means finds
are kept for every document, and the documents are drawn again with replacement (paired bootstrap: Efron and
Tibshirani, 1993): the interval says what difference other documents of the kind would have shown.

Legend: N documents, R runs of k-means, K clusters.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUNS = 5
RESAMPLES = 1_000
Clusters = npt.NDArray[np.int16]


def cluster(vectors: npt.NDArray[np.float32], labels: Sequence[str]) -> Clusters:
    """Return the cluster of each document in each run of k-means, (R, N) int16; K is the number of labels."""
    from sklearn.cluster import KMeans

    count = len(set(labels))
    runs = [KMeans(count, n_init=1, random_state=seed).fit_predict(vectors) for seed in range(RUNS)]
    return np.stack(runs).astype(np.int16)


def v_measure(truth: npt.NDArray[np.int64], found: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> float:
    """Return the V-measure (Rosenberg and Hirschberg, 2007), in [0, 1], of documents that count ``weights`` times.

    Args:
        truth: (N,) classes from 0.
        found: (N,) clusters from 0.
        weights: (N,) how often each document counts.
    """
    columns = int(found.max()) + 1
    size = (int(truth.max()) + 1) * columns
    joint = np.bincount(truth * columns + found, weights, minlength=size).reshape(-1, columns) / weights.sum()
    classes, clusters = joint.sum(axis=1), joint.sum(axis=0)
    h_classes, h_clusters, h_joint = _entropy(classes), _entropy(clusters), _entropy(joint)
    if h_classes + h_clusters == 0:
        return 1.0
    return 2 * (h_classes + h_clusters - h_joint) / (h_classes + h_clusters)  # mutual information over mean entropy


def difference_interval(
    labels: Sequence[str], before: Clusters, after: Clusters, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of V-measure after minus before, times 100, over resampled documents.

    Args:
        labels: of the N documents.
        before: (R, N) clusters under one model.
        after: (R, N) clusters of the same documents under another.
        confidence: share of the resamples inside the interval.
    """
    names = {label: number for number, label in enumerate(sorted(set(labels)))}
    truth = np.array([names[label] for label in labels], dtype=np.int64)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(len(truth), size=len(truth)), minlength=len(truth)).astype(np.float64)
        score = [np.mean([v_measure(truth, run.astype(np.int64), weights) for run in runs]) for runs in (before, after)]
        differences.append(100 * (score[1] - score[0]))
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
