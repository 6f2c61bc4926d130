"""Measures of vectors without labels, against closed forms and sums over all pairs."""

import csv
import logging
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from embedllm.data.embedded_files import embedded_data_path
from embedllm.eval.intrinsic import TEXTS, alignment, corpus, effective_rank, mean_cosine, measures, uniformity, unit


def sphere(rows: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))


def article_rows() -> list[dict[str, str]]:
    with embedded_data_path("wikipedia_sentences").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[:TEXTS]


def test_alignment_is_0_for_equal_pairs_and_4_for_opposite_ones() -> None:
    vectors = sphere(20, 5)
    assert alignment(vectors, vectors) == 0
    assert alignment(vectors, -vectors) == pytest.approx(4)
    quarter = np.eye(4)
    assert alignment(quarter, np.roll(quarter, 1, axis=0)) == pytest.approx(2)
    assert alignment(np.eye(2), np.array([[1.0, 0.0], [0.0, -1.0]])) == pytest.approx(2)  # the mean of 0 and 4


@pytest.mark.parametrize(("t", "factor"), [(2.0, 1), (1.0, 0.5), (3.0, 1.5)])
def test_uniformity_of_two_vectors_is_minus_t_times_their_squared_distance(t: float, factor: float) -> None:
    x, y = np.eye(2)
    assert uniformity(np.stack([x, x]), t) == pytest.approx(0, abs=1e-12)
    assert uniformity(np.stack([x, y]), t) == pytest.approx(-4 * factor)
    assert uniformity(np.stack([x, -x]), t) == pytest.approx(-8 * factor)


def test_uniformity_takes_the_log_of_the_mean() -> None:
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # distances 0, 2, 2
    assert uniformity(rows) == pytest.approx(np.log((1 + 2 * np.exp(-4)) / 3))


def test_vectors_of_zero_are_equal_too() -> None:
    assert uniformity(np.zeros((5, 3))) == 0
    assert uniformity(np.array([[0.0, 0.0], [1.0, 0.0]])) == pytest.approx(-2)
    assert effective_rank(np.zeros((5, 3))) == 1


def test_the_more_evenly_the_lower_is_uniformity() -> None:
    near = unit(sphere(200, 8) + 2 * np.eye(8)[0])
    assert uniformity(sphere(200, 8)) < uniformity(near) < uniformity(np.ones((200, 1))) + 1e-12


def test_the_effective_rank_counts_directions() -> None:
    for count in (1, 2, 7):
        assert effective_rank(np.eye(9)[:count]) == pytest.approx(count)
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 6)))[0].T
    assert effective_rank(3 * turned) == pytest.approx(6)
    assert effective_rank(np.tile(sphere(1, 5), (8, 1))) == pytest.approx(1)
    assert effective_rank(np.tile(np.eye(3), (4, 1))) == pytest.approx(3)


def test_the_effective_rank_is_the_exponential_of_the_entropy() -> None:
    """Singular values of 2, 1, 1 are shares of 1/2, 1/4, 1/4: an entropy of 3/2 bits."""
    left, right = (np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 3)))[0] for seed in range(2))
    assert effective_rank(left @ np.diag([2.0, 1.0, 1.0]) @ right.T) == pytest.approx(2**1.5)


@pytest.mark.parametrize("shape", [(2, 3), (30, 4), (5, 40)])
def test_sums_over_all_pairs(shape: tuple[int, int]) -> None:
    vectors = sphere(*shape)
    pairs = list(combinations(vectors, 2))
    assert mean_cosine(vectors) == pytest.approx(np.mean([x @ y for x, y in pairs]), abs=1e-12)
    assert uniformity(vectors) == pytest.approx(np.log(np.mean([np.exp(-2 * ((x - y) ** 2).sum()) for x, y in pairs])))


def test_a_mean_cosine_is_that_of_different_rows() -> None:
    assert mean_cosine(np.eye(6)) == pytest.approx(0, abs=1e-12)
    assert mean_cosine(np.tile(sphere(1, 5), (8, 1))) == pytest.approx(1)
    assert mean_cosine(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-1)


def test_a_row_of_zeros_has_no_direction() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -1e-30]])
    with np.errstate(all="raise"):
        np.testing.assert_allclose(unit(vectors), [[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]])


def test_pairs_of_the_corpus_are_all_pairs_of_one_article() -> None:
    texts, pairs = corpus()
    rows = article_rows()
    assert texts == [row["anchor"] for row in rows]
    assert len(set(texts)) == len(texts) == TEXTS
    articles: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        articles.setdefault(row["title"], []).append(position)
    expected = {pair for members in articles.values() for pair in combinations(members, 2)}
    assert {tuple(pair) for pair in pairs.tolist()} == expected
    assert len(pairs) == len(expected) > 100


class Found:
    """Gives each text of the corpus a vector by its position."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.places = {row["anchor"]: vector for row, vector in zip(article_rows(), vectors, strict=True)}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.places[text] for text in texts])


def test_measures_are_those_of_the_unit_vectors_in_double_precision() -> None:
    """Vectors of a narrow cone, as of a bare decoder, in single precision and of any length; one is zero."""
    rng = np.random.default_rng(0)
    vectors = ((rng.standard_normal((TEXTS, 12)) + 5) * rng.uniform(1, 100, (TEXTS, 1))).astype(np.float32)
    vectors[3] = 0
    found = measures(Found(vectors))
    scaled = [row / (np.linalg.norm(row) or 1) for row in vectors.astype(np.float64)]
    titles = [row["title"] for row in article_rows()]
    together, distances, cosines = [], [], []
    for i, j in combinations(range(TEXTS), 2):
        distances.append(((scaled[i] - scaled[j]) ** 2).sum())
        cosines.append(scaled[i] @ scaled[j])
        if titles[i] == titles[j]:
            together.append(distances[-1])
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(np.transpose(scaled) @ scaled), 0))
    shares = values / values.sum()
    expected = {
        "alignment": np.mean(together),
        "uniformity": np.log(np.mean(np.exp(-2 * np.array(distances)))),
        "effective_rank": np.exp(-(shares * np.log(shares)).sum()),
        "mean_cosine": np.mean(cosines),
    }
    assert found == pytest.approx(expected, rel=1e-9)
    assert all(type(value) is float for value in found.values())


def test_measures_do_not_depend_on_length_or_direction(hash_encoder: Callable[..., Any]) -> None:
    vectors = hash_encoder().encode(corpus()[0]).astype(np.float64)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((32, 32)))[0]
    assert measures(Found(7 * vectors @ turn)) == pytest.approx(measures(Found(vectors)), rel=1e-9)


def test_all_texts_are_encoded_once(hash_encoder: Callable[..., Any]) -> None:
    encoder = hash_encoder()
    assert measures(encoder)["effective_rank"] < 32
    assert encoder.calls == [[row["anchor"] for row in article_rows()]]


def test_a_constant_encoder_uses_one_direction() -> None:
    found = measures(Found(np.tile(np.float32([0.1, 0.7, 3]), (TEXTS, 1))))
    expected = {"alignment": 0, "uniformity": 0, "effective_rank": 1, "mean_cosine": 1}
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_told_of_and_not_measured(
    value: float, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = sphere(TEXTS, 4)
    vectors[[5, 9], 1] = value
    with caplog.at_level(logging.WARNING):
        assert measures(Found(vectors)) == {}
    assert caplog.messages == ["no intrinsic measures: 2 of 256 vectors hold NaN or infinity"]
