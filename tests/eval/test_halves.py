"""The spread of the difference between two clusterings, from halves of the documents."""

import numpy as np
import pytest
from scipy.stats import t

from embedllm.eval.bootstrap import RESAMPLES, interval
from embedllm.eval.halves import HALVES, LARGEST, RUNS, STARTS, half_scores, half_size, likely_differences, spread


def blobs(documents: int, noise: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Documents around the corners of a simplex."""
    classes = np.arange(documents) % 4
    vectors = np.eye(4, 8)[classes] + noise * np.random.default_rng(seed).standard_normal((documents, 8))
    return vectors.astype(np.float32), [f"class {number}" for number in classes]


def test_well_apart_halves_are_perfect_and_mixed_ones_are_not() -> None:
    assert half_scores(*blobs(80, 0.01)) == pytest.approx(np.full((HALVES, STARTS), 100.0))
    mixed = half_scores(*blobs(80, 0.6))
    assert 5 < mixed.mean() < 95
    assert mixed.std() > 1


@pytest.mark.slow
def test_halves_depend_on_the_documents_alone() -> None:
    vectors, labels = blobs(40, 0.5)
    np.testing.assert_array_equal(half_scores(vectors, labels), half_scores(vectors.copy(), labels))
    turned = vectors @ np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0].astype(np.float32)
    np.testing.assert_allclose(half_scores(turned, labels), half_scores(vectors, labels), atol=3.0)


@pytest.mark.parametrize("documents", [2, 3, 5])
def test_a_handful_of_documents_has_halves_too(documents: int) -> None:
    scores = half_scores(np.eye(documents, dtype=np.float32), [str(i) for i in range(documents)])
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("documents", "expected"), [(2, 1), (9, 4), (1000, 500), (100_000, LARGEST)])
def test_a_half_is_half_of_the_documents_and_never_very_many(documents: int, expected: int) -> None:
    assert half_size(documents) == expected


@pytest.mark.parametrize("documents", [200, 3 * LARGEST])
def test_the_spread_of_a_mean_over_halves_is_the_standard_error_of_the_mean(documents: int) -> None:
    """Of a mean of independent numbers, instead of a clustering, the spread over samples is known."""
    numbers = np.random.default_rng(0).standard_normal(documents)
    found = []
    for draw in range(40):
        halves = [
            np.random.default_rng([draw, half]).permutation(documents)[: half_size(documents)] for half in range(HALVES)
        ]
        found.append(spread(np.array([[numbers[rows].mean()] * STARTS for rows in halves]), documents))
    assert np.mean(found) == pytest.approx(numbers.std(ddof=1) / np.sqrt(documents), rel=0.05)


def test_the_spread_over_starts_alone_shrinks_with_the_runs_of_a_score() -> None:
    found = [
        spread(np.random.default_rng(seed).standard_normal((HALVES, STARTS)) * 2, 1000) ** 2 for seed in range(400)
    ]
    assert 4 / RUNS < np.mean(found) < 4 / RUNS + 0.3  # a variance below zero counts as none


def test_the_interval_is_students() -> None:
    halves = np.random.default_rng(0).standard_normal((HALVES, STARTS))
    low, high = interval(likely_differences(3.0, halves, 100))
    assert (low + high) / 2 == pytest.approx(3.0)
    assert (high - low) / 2 == pytest.approx(t.ppf(0.975, HALVES - 1) * spread(halves, 100), rel=0.01)


def test_equal_clusterings_differ_by_nothing() -> None:
    assert likely_differences(0.0, np.zeros((HALVES, STARTS)), 50).tolist() == [0.0] * RESAMPLES
