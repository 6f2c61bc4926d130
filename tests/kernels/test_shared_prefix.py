"""The part of the prompt before the text, computed once: the vectors and gradients of whole texts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_decoders import ARCHITECTURES
from test_engine import assert_close, gradients, make, pool

from embedllm.backbone import load_backbone
from embedllm.embedder import Embedder, ModelSpec
from embedllm.engine import ContrastiveStep
from embedllm.kernels.shared_prefix import read_after, read_prefix, shares_prefix
from embedllm.losses import InfoNCE
from embedllm.pooling import (
    AttentionPooling,
    ConcatPooling,
    EosPooling,
    LastTokenPooling,
    MaxPooling,
    MeanPooling,
    WeightedMeanPooling,
)

HEADS = [MeanPooling, LastTokenPooling, EosPooling, WeightedMeanPooling, MaxPooling, ConcatPooling, AttentionPooling]
TEXTS = ["a cat", "", "the rain in the street " * 3, "x", "a car on the road", "😀"]
TEMPLATE = 'The topic of this sentence : "{text}"'


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_hidden_states_after_a_prefix_are_those_of_the_whole(
    architecture: str, make_decoder: Callable[[str], Path]
) -> None:
    model = load_backbone(str(make_decoder(architecture)), dtype="float32")
    ids = torch.randint(3, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    ids[:, :5] = ids[0, :5]
    shared = ids[0, :5].tolist()
    assert shares_prefix(model, shared)
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(read_after(model, read_prefix(model, shared), ids), whole, rtol=1e-4, atol=1e-5)


def test_a_backbone_that_cannot_go_on_after_a_prefix_is_found_out(tiny_path: Path) -> None:
    ids = [5, 6, 7, 8]
    assert not shares_prefix(load_backbone(str(tiny_path), dtype="float32", attention="bidirectional"), ids)
    model = load_backbone(str(tiny_path), dtype="float32")
    assert shares_prefix(model, ids)
    forward = model.forward
    model.forward = lambda input_ids, **_: forward(input_ids=input_ids, use_cache=False)  # type: ignore[method-assign]
    assert not shares_prefix(model, ids)


def embedder_of(path: Path, head: type, template: str = TEMPLATE) -> Embedder:
    return Embedder.from_pretrained(ModelSpec(str(path), dtype="float32", max_length=48), template=template, head=head)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("template", [TEMPLATE, 'The topic of this "{text}" is', 'The topic : "{text} "'])
def test_vectors_are_those_of_whole_texts(tiny_path: Path, head: type, template: str) -> None:
    model = embedder_of(tiny_path, head, template)
    rows = model.tokenize(TEXTS)
    assert 0 < model.shared_tokens(rows) < min(map(len, rows))
    found = model.encode(TEXTS)
    model._takes_whole_texts = True
    np.testing.assert_allclose(found, model.encode(TEXTS), rtol=1e-4, atol=2e-6)


def test_rows_that_begin_otherwise_and_short_prefixes_are_read_whole(tiny_path: Path) -> None:
    model = embedder_of(tiny_path, MeanPooling)
    rows = model.tokenize(TEXTS)
    assert model.shared_tokens([*rows, [4, 5, 6, 7, 8, 9, 10, 11, 12]]) == 0
    assert model.shared_tokens(rows[:1]) == 0
    bare = embedder_of(tiny_path, MeanPooling, "{text}")
    assert bare.shared_tokens(bare.tokenize(["a cat", "a car"])) == 0


@pytest.mark.thinned(3)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("grad_cache", [False, True])
@pytest.mark.parametrize("head", [MeanPooling, LastTokenPooling])
def test_gradients_are_those_of_whole_texts_dropout_included(
    tiny_path: Path, head: type, grad_cache: bool, dropout: float
) -> None:
    embedder = make(tiny_path, head=head, dropout=dropout)
    step = ContrastiveStep(embedder, InfoNCE(0.1), micro_batch_tokens=60, grad_cache=grad_cache)
    shared = step(pool(embedder), key=(0, 7))
    found = gradients(embedder)
    embedder._takes_whole_texts = True
    whole = step(pool(embedder), key=(0, 7))
    assert shared.loss == pytest.approx(whole.loss, rel=1e-5)
    assert_close(found, gradients(embedder))


def test_the_backward_pass_ends_above_what_is_frozen(tiny_path: Path) -> None:
    embedder = make(tiny_path)
    for name, parameter in embedder.named_parameters():
        parameter.requires_grad_("lora" in name and "layers.1." in name)
    rows = embedder.tokenize(["a cat", "a car"])
    prefix = embedder.read_prefix(rows[0][: embedder.shared_tokens(rows)])
    assert [key.requires_grad for key, _ in prefix.cut_off().states] == [False, True]
