"""The attention of the pooled position, against the attention that transformers returns for each text alone."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_decoders import ARCHITECTURES
from torch import nn
from transformers import AutoModel

from embedllm.adapter import AdapterSpec, merged
from embedllm.analysis import pooled_rows as module_
from embedllm.analysis.pooled_rows import Rows, pooled_rows
from embedllm.backbone import blocks, load_backbone
from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.pooling import (
    AttentionPooling,
    ConcatPooling,
    EosPooling,
    LastTokenPooling,
    MaxPooling,
    MeanPooling,
    PoolingHead,
    WeightedMeanPooling,
)

TEXTS = ["The man drives the red car today.", "Nobody", "42 rivers, a cluster and the café's window at 9:30"]
PROMPT = 'This sentence : "{text}" means in one word:'


def found(embedder: Embedder, texts: list[str] = TEXTS) -> list[Rows]:
    rows = dict(pooled_rows(embedder, embedder.tokenize(texts)))
    return [rows[i] for i in range(len(texts))]


@torch.no_grad()
def reference(model: Any, ids: list[int]) -> tuple[np.ndarray, torch.Tensor]:
    """Return all weights of one text, (layers, H, n, n), and its states, (n, D)."""
    output = model(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
    return torch.stack(output.attentions)[:, 0].double().numpy(), output.last_hidden_state[0]


def eager(embedder: Embedder) -> Any:
    return AutoModel.from_pretrained(embedder.spec.name, attn_implementation="eager", dtype=torch.float32).eval()


@pytest.mark.parametrize("template", ["{text}", PROMPT])
@pytest.mark.parametrize("head", [LastTokenPooling, MeanPooling])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_it_is_the_attention_of_transformers(
    architecture: str, head: type[PoolingHead], template: str, decoder: Callable[..., Embedder]
) -> None:
    embedder = decoder(architecture, head, template)
    model = eager(embedder)
    if architecture != "gpt2":
        assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (4, 2)
    for ids, rows in zip(embedder.tokenize(TEXTS), found(embedder), strict=True):
        weights, _ = reference(model, ids)
        expected = weights[:, :, -1] if head is LastTokenPooling else weights.mean(axis=2)
        assert rows.layers == (1, 2, 3, 4)
        np.testing.assert_allclose(rows.weights, expected, atol=2e-6)
        np.testing.assert_allclose(rows.weights.sum(axis=-1), 1, atol=1e-5)


def head_of(name: str, size: int) -> PoolingHead:
    heads = {"eos": EosPooling, "weighted": WeightedMeanPooling, "concat": ConcatPooling, "max": MaxPooling}
    if name == "learned":
        head = AttentionPooling(size)
        head.query.data = torch.linspace(-1, 1, size)
        return head
    if name in heads:
        return heads[name](size)
    return MeanPooling(size, pool_over=name)


def by_hand(name: str, states: torch.Tensor, prefix: int, suffix: int) -> np.ndarray:
    """How much each of n positions counts."""
    n = len(states)
    counts = {
        "eos": np.eye(n)[-1],
        "weighted": np.arange(1, n + 1) / sum(range(1, n + 1)),
        "concat": (np.full(n, 1 / n) + np.eye(n)[-1]) / 2,
        "max": np.bincount(states.argmax(dim=0).numpy(), minlength=n) / states.size(1),
        "learned": (states @ torch.linspace(-1, 1, states.size(1)) / states.size(1) ** 0.5).softmax(0).numpy(),
        "text": np.array([prefix <= i < n - suffix for i in range(n)]) / (n - prefix - suffix),
        "suffix": np.array([i >= n - suffix for i in range(n)]) / suffix,
    }
    return counts[name]


@pytest.mark.parametrize("name", ["eos", "weighted", "concat", "max", "learned", "text", "suffix"])
def test_every_head_weighs_rows_as_it_weighs_states(name: str, decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", partial(head_of, name), PROMPT)
    model = eager(embedder)
    for ids, rows in zip(embedder.tokenize(TEXTS), found(embedder), strict=True):
        weights, states = reference(model, ids)
        counts = by_hand(name, states, embedder.prompt.prefix_tokens, embedder.prompt.suffix_tokens)
        np.testing.assert_allclose(rows.pooled, counts, atol=1e-5)
        np.testing.assert_allclose(rows.weights, np.einsum("lhnm,n->lhm", weights, counts), atol=1e-5)


def test_attention_in_both_directions(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", MeanPooling, attention="bidirectional")
    model = load_backbone(embedder.spec.name, attention="bidirectional", dtype="float32")
    model.set_attn_implementation("eager")
    for ids, rows in zip(embedder.tokenize(TEXTS), found(embedder), strict=True):
        weights, _ = reference(model, ids)
        assert len(ids) == 1 or weights[0, 0, 0, -1] > 0  # the first token sees the last
        np.testing.assert_allclose(rows.weights, weights.mean(axis=2), atol=2e-6)


def test_an_adapter_counts(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", LastTokenPooling, adapter=AdapterSpec("lora"))
    plain = found(embedder)
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model = merged(embedder.backbone)
    model.set_attn_implementation("eager")
    for ids, rows, before in zip(embedder.tokenize(TEXTS), found(embedder), plain, strict=True):
        np.testing.assert_allclose(rows.weights, reference(model, ids)[0][:, :, -1], atol=1e-5)
        assert len(ids) == 2 or np.abs(rows.weights - before.weights).max() > 1e-3


def test_the_squares_of_one_layer_are_gone_before_those_of_the_next(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", MeanPooling)
    squares: list[weakref.ref[torch.Tensor]] = []

    def watch(module: nn.Module, args: Any, output: Any) -> None:
        assert all(square() is None for square in squares)
        squares.append(weakref.ref(output[1]))

    for block in blocks(embedder.backbone):
        block.self_attn.register_forward_hook(watch)
    found(embedder)
    assert len(squares) == 4


def test_batches_change_nothing_and_the_model_is_left_as_it_was(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("gemma3", MeanPooling, PROMPT).train()
    rows = embedder.tokenize(TEXTS)
    small = dict(pooled_rows(embedder, rows, batch_tokens=1))
    for i, together in pooled_rows(embedder, rows, batch_tokens=1_000):
        np.testing.assert_allclose(together.weights, small[i].weights, atol=2e-6)
    assert embedder.training
    assert embedder.backbone.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in embedder.modules())


def test_a_model_without_weights_is_refused(decoder: Callable[..., Embedder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_, "eager_attention", lambda _: nullcontext())
    with pytest.raises(InputError, match="returns attention weights in none of its layers"):
        found(decoder("llama"))


@pytest.mark.slow
def test_the_real_model(smollm2_path: Path) -> None:
    embedder = Embedder.from_pretrained(str(smollm2_path), template=PROMPT, head=LastTokenPooling)
    model = AutoModel.from_pretrained(smollm2_path, attn_implementation="eager", dtype=embedder.backbone.dtype).eval()
    (ids,) = embedder.tokenize(["a man is driving a car"])
    (rows,) = found(embedder, ["a man is driving a car"])
    atol = 1e-5 if model.dtype == torch.float32 else 1e-2
    np.testing.assert_allclose(rows.weights, reference(model, ids)[0][:, :, -1], atol=atol)
