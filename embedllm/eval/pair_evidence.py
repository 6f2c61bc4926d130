"""What is kept of a task on pairs of texts: enough to say how sure a difference between two models is.

Legend: N pairs, B resamples, G groups of pairs with equal values, M measures of similarity.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedllm.eval.bootstrap import Draws, Floats
from embedllm.eval.stored import StoredArrays


@dataclass(frozen=True)
class SimilarityEvidence(StoredArrays):
    """A similarity task (STS), pair by pair; its score is Spearman's correlation of cosines and gold scores."""

    gold: Floats
    """(N,) what people said."""
    cosines: Floats
    """(N,) what the model says."""

    runs = 1

    def scores(self, block: Draws) -> Floats:
        """Return the score of each resample, times 100, (B,)."""
        return 100 * spearman(self.gold, self.cosines, block.weights)


@dataclass(frozen=True)
class PairClassificationEvidence(StoredArrays):
    """A task that tells pairs of one meaning from others; its score is the best average precision of its measures."""

    same: npt.NDArray[np.bool_]
    """(N,) whether the texts of a pair mean the same."""
    similarities: Floats
    """(M, N) the measures of similarity; higher is more alike."""

    runs = 1

    def scores(self, block: Draws) -> Floats:
        """Return the score of each resample, times 100, (B,)."""
        precisions = [average_precision(self.same, measure, block.weights) for measure in self.similarities]
        best: Floats = 100 * np.max(precisions, axis=0)
        return best


def spearman(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Return Spearman's rank correlation where pair i counts ``weights[b, i]`` times, (B,).

    Ties share their mean rank. A resample in which all values of one side are equal has no correlation, given as 0.

    Args:
        first: (N,)
        second: (N,)
        weights: (B, N) whole numbers.
    """
    middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
    x, y = (_mean_ranks(values, weights) - middle for values in (first, second))  # (B, N)
    together, alone, other = ((weights * product).sum(axis=1) for product in (x * y, x * x, y * y))
    spread = np.sqrt(alone * other)
    correlation: Floats = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    return correlation


def average_precision(same: npt.NDArray[np.bool_], similarity: Floats, weights: Floats) -> Floats:
    """Return the average precision where pair i counts ``weights[b, i]`` times, (B,); 0 without a pair that is alike.

    The sum of precision times gain in recall over the thresholds, as scikit-learn has it; ties share a threshold.

    Args:
        same: (N,)
        similarity: (N,)
        weights: (B, N) whole numbers.
    """
    group = np.unique(-similarity, return_inverse=True)[1]  # the most alike first
    hits = _group_sums(group, weights * same)  # (B, G)
    found, seen = hits.cumsum(axis=1), _group_sums(group, weights).cumsum(axis=1)
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    total = found[:, -1]
    mean: Floats = np.divide((hits * precision).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    return mean


def _mean_ranks(values: Floats, weights: Floats) -> Floats:
    """Return the rank from 1 of each value in each resample, (B, N)."""
    group = np.unique(values, return_inverse=True)[1]
    totals = _group_sums(group, weights)
    ranks = totals.cumsum(axis=1) - (totals - 1) / 2  # (B, G)
    return ranks[:, group]


def _group_sums(group: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the weight of each group in each resample, (B, G)."""
    return np.stack([np.bincount(group, row) for row in weights])
