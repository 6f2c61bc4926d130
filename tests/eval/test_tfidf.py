"""Counts of words as vectors."""

import math
from collections import Counter

import numpy as np
import pytest

from embedllm.eval.tfidf import TfidfEncoder

TEXTS = ["the cat sat", "the cat sat on the mat", "a dog ran", "the dog and the cat", "rain fell on the sea"]


def by_hand(texts: list[str], fitted: list[str]) -> np.ndarray:
    """Cosines of TF-IDF vectors with smoothed document frequencies, as scikit-learn's manual defines them."""
    words = sorted({word for text in fitted for word in text.split() if len(word) > 1})
    frequency = {word: sum(word in text.split() for text in fitted) for word in words}
    idf = {word: math.log((1 + len(fitted)) / (1 + frequency[word])) + 1 for word in words}
    vectors = np.array([[Counter(text.split())[word] * idf[word] for word in words] for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def test_a_few_texts_keep_the_cosines_of_tf_idf() -> None:
    vectors = TfidfEncoder().encode(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (5, 5))
    np.testing.assert_allclose(vectors @ vectors.T, by_hand(TEXTS, TEXTS), atol=1e-6)


def test_many_texts_have_a_hundred_dimensions_of_unit_length() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{n}" for n in rng.integers(500, size=8)) for _ in range(300)]
    vectors = TfidfEncoder().encode(texts)
    assert vectors.shape == (300, 100)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(vectors, TfidfEncoder().encode(texts))


def test_calls_share_one_space_after_a_fit() -> None:
    encoder = TfidfEncoder()
    encoder.fit([*TEXTS, TEXTS[0]])  # a repeated text counts once
    apart = np.concatenate([encoder.encode(TEXTS[:2]), encoder.encode(TEXTS[2:])])
    np.testing.assert_allclose(apart @ apart.T, by_hand(TEXTS, TEXTS), atol=1e-6)


def test_a_new_fit_forgets_the_old_one() -> None:
    encoder = TfidfEncoder()
    encoder.fit(["wholly other words", "of other tasks"])
    encoder.fit(TEXTS)
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(vectors @ vectors.T, by_hand(TEXTS, TEXTS), atol=1e-6)


def test_without_a_fit_each_call_stands_alone() -> None:
    encoder = TfidfEncoder()
    encoder.encode(["wholly other words", "of other tasks"])
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(vectors @ vectors.T, by_hand(TEXTS, TEXTS), atol=1e-6)


def test_a_text_of_unknown_words_is_zero() -> None:
    encoder = TfidfEncoder()
    encoder.fit(TEXTS)
    assert not encoder.encode(["unseen", ""]).any()


def test_one_text_is_enough() -> None:
    np.testing.assert_allclose(np.abs(TfidfEncoder().encode(["one text"])), [[1.0]])


def test_texts_without_a_word_are_an_error() -> None:
    with pytest.raises(ValueError, match="empty vocabulary"):
        TfidfEncoder().encode(["!", "?"])
