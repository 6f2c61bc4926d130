"""How sure a difference between two scores on the same documents is.

A score is one number; whether 41.2 is better than 40.7 depends on the documents, and of a clustering also on where
k-means starts. So documents, and the runs of what is repeated, are drawn again with replacement (paired bootstrap:
Efron and Tibshirani, 1993), the same ones for both models.

For similarity, pairs and classification the interval says what difference other documents of the kind would have
shown. For a clustering it takes the partitions as they are, and does not cluster the drawn documents again: it is too
narrow, by about a third on samples of 512 titles, so a difference near its edge may be none.

Legend: N documents, R runs of k-means or of another repetition, B resamples at a time, S cells of a table.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 1_000
BLOCK = 100
"""Resamples that are worked on at once: enough to be fast, few enough for the memory."""

Clusters = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]


class Draws(NamedTuple):
    """Some of the resamples."""

    weights: Floats
    """(B, N) how often each document was drawn; a row sums to N."""
    runs: npt.NDArray[np.int64]
    """(B, R) the runs that were drawn."""


def draws(documents: int, runs: int = 1) -> Iterator[Draws]:
    """Yield all resamples of so many documents and runs in blocks; they are the same at every call."""
    rng = np.random.default_rng(0)
    for start in range(0, RESAMPLES, BLOCK):
        weights, drawn = [], []
        for _ in range(min(BLOCK, RESAMPLES - start)):
            weights.append(np.bincount(rng.integers(documents, size=documents), minlength=documents))
            drawn.append(rng.integers(runs, size=runs))
        yield Draws(np.array(weights, dtype=np.float64), np.array(drawn))


def interval(differences: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Return the bounds that hold the middle ``confidence`` of the differences (percentile method).

    Args:
        differences: one for each resample.
        confidence: share of the resamples inside the interval.
    """
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def difference_interval(
    labels: Sequence[str], before: Clusters, after: Clusters, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of V-measure after minus before, times 100, over resampled documents and runs.

    Args:
        labels: of the N documents.
        before: (R, N) clusters under one model.
        after: (R, N) clusters of the same documents under another.
        confidence: share of the resamples inside the interval.
    """
    return interval(clustering_differences(labels, before, after), confidence)


def clustering_differences(labels: Sequence[str], before: Clusters, after: Clusters) -> Floats:
    """Return V-measure after minus before, times 100, in each resample, (RESAMPLES,).

    Run r starts alike under both models, so runs are drawn in pairs. Arguments as of :func:`difference_interval`.
    """
    names = {label: number for number, label in enumerate(sorted(set(labels)))}
    truth = np.array([names[label] for label in labels], dtype=np.int64)
    blocks = []
    for block in draws(len(truth), len(before)):
        scores = [_mean_v_measure(truth, clusters, block) for clusters in (before, after)]
        blocks.append(100 * (scores[1] - scores[0]))
    return np.concatenate(blocks)


def v_measure(truth: npt.NDArray[np.int64], found: npt.NDArray[np.int64], weights: Floats) -> float:
    """Return the V-measure (Rosenberg and Hirschberg, 2007), in [0, 1], of documents that count ``weights`` times.

    Args:
        truth: (N,) classes from 0.
        found: (N,) clusters from 0.
        weights: (N,) how often each document counts.
    """
    return float(v_measures(truth, found, weights[None])[0])


def v_measures(truth: npt.NDArray[np.int64], found: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the V-measure of each row of ``weights`` (B, N), (B,); see :func:`v_measure`."""
    columns = int(found.max()) + 1
    cells = truth * columns + found  # (N,)
    joint = np.empty((len(weights), (int(truth.max()) + 1) * columns))  # (B, S)
    for row, weight in zip(joint, weights, strict=True):
        np.divide(np.bincount(cells, weight, minlength=len(row)), weight.sum(), out=row)
    table = joint.reshape(len(weights), -1, columns)
    apart = _entropies(table.sum(axis=2)) + _entropies(table.sum(axis=1))
    shared = apart - _entropies(joint[:, np.unique(cells)])  # the mutual information
    return np.divide(2 * shared, apart, out=np.ones_like(apart), where=apart != 0)


def _mean_v_measure(truth: npt.NDArray[np.int64], clusters: Clusters, block: Draws) -> Floats:
    """Return the mean over the drawn runs in each resample, (B,)."""
    scores = np.zeros(block.runs.shape)
    for run, found in enumerate(clusters.astype(np.int64)):
        drawn = (block.runs == run).any(axis=1)  # a third of the runs is in no resample
        if drawn.any():
            scores[drawn, run] = v_measures(truth, found, block.weights[drawn])
    means: Floats = np.take_along_axis(scores, block.runs, axis=1).mean(axis=1)
    return means


def _entropies(shares: Floats) -> Floats:
    """Return the entropy of each row of ``shares`` (B, S), (B,).

    Rows with equally many positive shares are summed at once, so that no zero changes the rounding of a sum.
    """
    positive = shares > 0
    counts = positive.sum(axis=1)
    entropies = np.zeros(len(shares))
    for count in np.unique(counts):
        rows = counts == count
        kept = shares[rows][positive[rows]].reshape(-1, count)
        entropies[rows] = -(kept * np.log(kept)).sum(axis=1)
    return entropies
