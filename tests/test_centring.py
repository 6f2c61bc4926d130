"""Centring: the mean of a fixed corpus is subtracted."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from embedllm.centring import Centring, reference_texts
from embedllm.data.embedded_files import embedded_data_path


def test_the_corpus_that_was_measured_has_mean_zero_afterwards() -> None:
    vectors = (np.random.default_rng(0).normal(size=(50, 7)) + 30).astype(np.float32)
    centred = Centring.of(vectors)(torch.from_numpy(vectors))
    np.testing.assert_allclose(centred.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(centred, vectors - vectors.astype(np.float64).mean(axis=0), atol=1e-5)


def test_the_mean_is_taken_in_double_precision() -> None:
    vectors = np.full((100_000, 1), 16_777.216, dtype=np.float32)
    assert float(Centring.of(vectors).mean) == pytest.approx(float(vectors[0, 0]), rel=1e-7)


def test_it_is_a_dense_layer_of_the_identity_to_the_last_bit() -> None:
    """What the docstring says about an export."""
    vectors = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    centring = Centring(torch.linspace(-1, 1, 9))
    dense = nn.Linear(9, 9)
    dense.load_state_dict({"weight": torch.eye(9), "bias": -centring.mean})
    assert torch.equal(dense(vectors), centring(vectors))


def test_the_mean_is_saved_and_moved_with_a_module() -> None:
    centring = Centring(torch.ones(3, dtype=torch.float64))
    assert set(centring.state_dict()) == {"mean"}
    assert centring.mean.dtype == torch.float32
    assert centring(torch.ones(1, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_reference_is_the_first_sentences_of_the_embedded_corpus() -> None:
    with embedded_data_path("wikipedia_sentences").open(encoding="utf-8", newline="") as file:
        sentences = [row["anchor"] for row in csv.DictReader(file)]
    assert reference_texts() == sentences[:256]
    assert len(reference_texts(10)) == 10
