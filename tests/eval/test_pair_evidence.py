"""Resampled scores of tasks on pairs and of classifications, against the same scores of repeated rows."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, average_precision_score

from embedllm.eval.bootstrap import Draws
from embedllm.eval.classification_evidence import ClassificationEvidence
from embedllm.eval.pair_evidence import PairClassificationEvidence, SimilarityEvidence, average_precision, spearman
from embedllm.eval.stored import digests

DOCUMENTS = digests((str(i),) for i in range(40))


def counts(rows: int = 5) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, size=(rows, 40)).astype(np.float64)


@pytest.mark.parametrize("decimals", [0, 1, 9])  # many ties, some, none
def test_spearman_is_scipys_with_rows_repeated(decimals: int) -> None:
    rng = np.random.default_rng(0)
    gold, cosines = rng.uniform(0, 5, 40).round(decimals), rng.uniform(-1, 1, 40).round(decimals)
    weights = counts()
    repeats = weights.astype(int)
    expected = [spearmanr(np.repeat(gold, row), np.repeat(cosines, row))[0] for row in repeats]
    assert spearman(gold, cosines, weights) == pytest.approx(expected, abs=1e-12)
    block = Draws(weights, np.zeros((5, 1), dtype=np.int64))
    assert SimilarityEvidence(DOCUMENTS, gold, cosines).scores(block) == pytest.approx(100 * np.array(expected))


def test_equal_values_have_no_correlation() -> None:
    assert spearman(np.ones(3), np.arange(3.0), np.ones((2, 3))).tolist() == [0.0, 0.0]
    assert spearman(np.arange(3.0), np.arange(3.0), np.array([[0.0, 3.0, 0.0]])).tolist() == [0.0]


@pytest.mark.parametrize("decimals", [1, 9])
def test_average_precision_is_sklearns_with_rows_repeated(decimals: int) -> None:
    rng = np.random.default_rng(0)
    same, similarity = rng.random(40) < 0.3, rng.uniform(-1, 1, 40).round(decimals)
    weights = counts()
    repeats = weights.astype(int)
    expected = [average_precision_score(np.repeat(same, row), np.repeat(similarity, row)) for row in repeats]
    assert average_precision(same, similarity, weights) == pytest.approx(expected, abs=1e-12)


def test_the_best_measure_counts_in_each_resample() -> None:
    same = np.array([True, True, False, False])
    measures = np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.9, 0.3, 0.2]])  # each is right about one pair
    block = Draws(np.array([[1.0, 0, 1, 1], [0.0, 1, 1, 1]]), np.zeros((2, 1), dtype=np.int64))
    evidence = PairClassificationEvidence(DOCUMENTS[:4], same, measures)
    assert evidence.scores(block) == pytest.approx([100.0, 100.0])


def test_without_a_pair_that_is_alike_the_precision_is_zero() -> None:
    assert average_precision(np.array([True, False]), np.array([0.5, 0.1]), np.array([[0.0, 2.0]])).tolist() == [0.0]


def test_accuracy_is_the_mean_over_drawn_experiments_of_drawn_documents() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(3, size=40), rng.integers(3, size=(4, 40))
    weights, runs = counts(), rng.integers(4, size=(5, 4))
    expected = [
        np.mean([accuracy_score(gold, predicted[run], sample_weight=row) for run in drawn])
        for row, drawn in zip(weights, runs, strict=True)
    ]
    evidence = ClassificationEvidence(DOCUMENTS, predicted == gold)
    assert evidence.runs == 4
    assert evidence.scores(Draws(weights, runs)) == pytest.approx(100 * np.array(expected))
