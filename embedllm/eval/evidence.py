"""How sure a difference between two clusterings of the same documents is.

A score is one number; whether 41.2 is better than 40.7 depends on the documents and on where k-means starts. So the
clusters of every document are kept for several runs of the k-means that MTEB uses, and documents and runs are drawn
again with replacement (paired bootstrap: Efron and Tibshirani, 1993): the interval says what difference other
documents of the kind, and other starts, would have shown.

Legend: N documents, R runs of k-means, K clusters.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUNS = 10
DRAWS = 16_384
"""Documents, with repetition, that one run of k-means is fitted to, as in MTEB."""
RESAMPLES = 1_000
Clusters = npt.NDArray[np.int16]


def cluster(vectors: npt.NDArray[np.float32], labels: Sequence[str]) -> Clusters:
    """Return the cluster of each document in each run of k-means, (R, N) int16; K is the number of labels."""
    from sklearn.cluster import MiniBatchKMeans

    runs = []
    for seed in range(RUNS):
        drawn = np.random.default_rng(seed).integers(len(vectors), size=DRAWS)
        model = MiniBatchKMeans(len(set(labels)), batch_size=512, n_init=1, random_state=seed)
        runs.append(model.fit(vectors[drawn]).predict(vectors))
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
    """Return the interval of V-measure after minus before, times 100, over resampled documents and runs.

    Run r starts alike under both models, so runs are drawn in pairs.

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
        drawn = rng.integers(len(before), size=len(before))
        score = [
            np.mean([v_measure(truth, runs[run].astype(np.int64), weights) for run in drawn])
            for runs in (before, after)
        ]
        differences.append(100 * (score[1] - score[0]))
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
