"""The interval of a difference between clusterings."""

import numpy as np
import pytest
from sklearn.metrics import v_measure_score

from embedllm.eval.evidence import cluster, difference_interval, v_measure


def test_v_measure_is_sklearns_with_documents_repeated() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(5, size=80), rng.integers(7, size=80)
    counts = rng.integers(0, 4, size=80)
    expected = v_measure_score(np.repeat(truth, counts), np.repeat(found, counts))
    assert v_measure(truth, found, counts.astype(np.float64)) == pytest.approx(expected, abs=1e-12)


def test_one_class_in_one_cluster_is_perfect() -> None:
    zeros = np.zeros(4, dtype=np.int64)
    assert v_measure(zeros, zeros, np.ones(4)) == 1.0


def noisy(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Five clusterings in which ``share`` of the documents are anywhere."""
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(5):
        run = labels.copy()
        wrong = rng.random(len(labels)) < share
        run[wrong] = rng.integers(labels.max() + 1, size=int(wrong.sum()))
        runs.append(run)
    return np.stack(runs).astype(np.int16)


def test_a_real_difference_is_outside_zero_and_none_is_inside() -> None:
    labels = np.random.default_rng(0).integers(6, size=300)
    names = [str(label) for label in labels]
    bad, good, as_bad = noisy(labels, 0.6, 1), noisy(labels, 0.3, 2), noisy(labels, 0.6, 3)
    low, high = difference_interval(names, bad, good)
    assert 0 < low < high
    low, high = difference_interval(names, bad, as_bad)
    assert low < 0 < high
    assert difference_interval(names, bad, bad) == (0.0, 0.0)


def test_the_other_way_round_is_the_negative() -> None:
    labels = np.random.default_rng(0).integers(4, size=100)
    names = [str(label) for label in labels]
    a, b = noisy(labels, 0.5, 1), noisy(labels, 0.2, 2)
    low, high = difference_interval(names, a, b)
    assert difference_interval(names, b, a) == pytest.approx((-high, -low))


def test_well_apart_vectors_are_clustered_by_label() -> None:
    rng = np.random.default_rng(0)
    labels = [str(i % 3) for i in range(60)]
    centres = np.eye(3, 8)
    vectors = np.stack([centres[i % 3] + 0.01 * rng.standard_normal(8) for i in range(60)]).astype(np.float32)
    runs = cluster(vectors, labels)
    assert runs.shape == (10, 60)
    truth = np.array([int(label) for label in labels])
    assert max(v_measure(truth, run.astype(np.int64), np.ones(60)) for run in runs) == pytest.approx(1.0)
