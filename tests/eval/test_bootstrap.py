"""Documents and runs that are drawn again, and the interval of what they give."""

import numpy as np
import pytest

from embedllm.eval.bootstrap import RESAMPLES, draws, interval


def test_every_resample_draws_as_many_documents_and_runs_as_there_are() -> None:
    blocks = list(draws(7, 3))
    weights = np.concatenate([block.weights for block in blocks])
    runs = np.concatenate([block.runs for block in blocks])
    assert (weights.shape, runs.shape) == ((RESAMPLES, 7), (RESAMPLES, 3))
    assert set(weights.sum(axis=1)) == {7.0}
    assert set(runs.ravel()) == {0, 1, 2}
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)
    assert all(np.array_equal(one.weights, two.weights) for one, two in zip(blocks, draws(7, 3), strict=True))


def test_an_interval_leaves_out_as_much_on_both_sides() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert interval(np.arange(1001.0), confidence=0.8) == pytest.approx((100.0, 900.0))
