"""The interval of a difference between clusterings."""

import numpy as np
import pytest
from sklearn.metrics import v_measure_score

from embedllm.eval.bootstrap import RESAMPLES, difference_interval, draws, interval, v_measure


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


def one_by_one(names: list[str], before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The interval, resample by resample and run by run."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    truth = np.array([numbers[name] for name in names])
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(len(truth), size=len(truth)), minlength=len(truth)).astype(np.float64)
        drawn = rng.integers(len(before), size=len(before))
        score = [np.mean([plain_v_measure(truth, runs[run], weights) for run in drawn]) for runs in (before, after)]
        differences.append(100 * (score[1] - score[0]))
    low, high = np.quantile(differences, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


def plain_v_measure(truth: np.ndarray, found: np.ndarray, weights: np.ndarray) -> float:
    joint = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(joint, (truth, found), weights)
    joint /= weights.sum()

    def entropy(shares: np.ndarray) -> float:
        positive = shares[shares > 0]
        return -(positive * np.log(positive)).sum()

    classes, clusters = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    return 1.0 if classes + clusters == 0 else 2 * (classes + clusters - entropy(joint)) / (classes + clusters)


@pytest.mark.parametrize(
    ("documents", "classes", "clusters", "runs"),
    [(2, 2, 2, 1), (37, 3, 5, 4), (61, 1, 4, 3), (53, 9, 1, 2), (150, 40, 33, 2)],
)
def test_all_resamples_at_once_give_the_bits_of_one_at_a_time(
    documents: int, classes: int, clusters: int, runs: int
) -> None:
    rng = np.random.default_rng(0)
    names = [f"class {number}" for number in rng.integers(classes, size=documents)]
    before, after = rng.integers(clusters, size=(2, runs, documents)).astype(np.int16)
    assert difference_interval(names, before, after) == one_by_one(names, before, after)


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
