"""How sure a difference between two scores on the same documents is.

A score is one number; whether 41.2 is better than 40.7 depends on the documents. So documents, and the runs of what is
repeated, are drawn again with replacement (paired bootstrap: Efron and Tibshirani, 1993), the same ones for both
models: the interval says what difference other documents of the kind would have shown. For clusterings, see
:mod:`embedllm.eval.halves`.

Legend: N documents, R runs of what is repeated, B resamples at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 1_000
BLOCK = 100
"""Resamples that are worked on at once: enough to be fast, few enough for the memory."""

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
