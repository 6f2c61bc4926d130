"""Centring: the mean of a fixed corpus is subtracted."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from embedllm import Embedder
from embedllm.centring import Centring, reference_texts
from embedllm.data.embedded_files import embedded_data_path
from embedllm.errors import InputError
from embedllm.export import export
from embedllm.pooling import ConcatPooling, LastTokenPooling, MeanPooling

pytestmark = pytest.mark.usefixtures("quick_scores")

TEXTS = ["a man is driving a car", "x", "", "The bank raised its interest rate. " * 30]


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


@pytest.mark.thinned(3)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("head", [MeanPooling, ConcatPooling])
def test_an_embedder_centres_before_it_normalises(tiny_path: Path, tmp_path: Path, head: Any, normalize: bool) -> None:
    embedder = Embedder.from_pretrained(str(tiny_path), head=partial(head, normalize=normalize))
    embedder.head.normalize = False
    mean = embedder.encode(reference_texts()).astype(np.float64).mean(axis=0)
    moved = embedder.encode(TEXTS) - mean
    embedder.head.normalize = normalize
    embedder.centre()
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True) if normalize else moved
    np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=1e-5)
    embedder.centre()  # of the vectors themselves, not of those that are centred already
    np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=1e-5)
    embedder.save(tmp_path)
    np.testing.assert_allclose(Embedder.load(tmp_path).encode(TEXTS), embedder.encode(TEXTS), atol=1e-6)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("head", [LastTokenPooling, ConcatPooling])
def test_sentence_transformers_centres_as_we_do(tiny_path: Path, tmp_path: Path, head: Any, normalize: bool) -> None:
    from sentence_transformers import SentenceTransformer

    embedder = Embedder.from_pretrained(str(tiny_path), template="A: {text}", head=partial(head, normalize=normalize))
    embedder.centre()
    embedder.save(tmp_path / "saved")
    export(tmp_path / "saved", tmp_path / "out")
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, embedder.encode(TEXTS), atol=1e-5)
    with pytest.raises(InputError, match="centring: True with weights in bfloat16 cannot be exported"):
        export(tmp_path / "saved", tmp_path / "half", dtype="bfloat16")
    assert not (tmp_path / "half").exists()


@pytest.mark.slow
def test_a_training_is_the_same_with_and_without_it(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("anchor,positive\n" + "".join(f"the {i} cats,{i} of the cats\n" for i in range(12)))
    dev = tmp_path / "dev.csv"
    words = ("cats sleep", "a red car", "blue sky above", "engines roar", "the old bank", "it rained", "x", "seven")
    rows = [f"{a},{b},{(3 * i + 5 * j) % 7}" for i, a in enumerate(words) for j, b in enumerate(words) if i < j]
    dev.write_text("\n".join(["sentence1,sentence2,score", *rows]) + "\n")
    training = [f"data.path={pairs}", "trainer.max_steps=2", "trainer.batch_size=4", "trainer.warmup=1"]
    dev_set = [f"eval.dev=[{dev}]", "trainer.eval_every=1", "eval.select=false"]
    for centring in ("true", "false"):
        code, printed = run(*training, *dev_set, f"centring={centring}", f"study=centring_{centring}")
        assert code == 0, printed
    models = [next((tmp_path / "runs" / f"centring_{value}").glob("*/model")) for value in ("true", "false")]
    adapters = [load_file(model / "adapter" / "adapter_model.safetensors") for model in models]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    centred = Embedder.load(models[0])
    assert centred.centring is not None
    mean = centred.centring.mean.clone()
    centred.centre()  # by the weights that the training ended with
    assert torch.allclose(mean, centred.centring.mean, atol=1e-6)
    result = json.loads((models[0].parent / "result.json").read_text())
    assert abs(result["intrinsic"]["after"]["mean_cosine"]) < 0.1
    curves = [(model.parent / "metrics.csv").read_text() for model in models]
    assert curves[0] != curves[1]  # the development set is scored with it
