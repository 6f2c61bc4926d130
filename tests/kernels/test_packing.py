"""Texts in one row, without padding: the states, vectors and gradients of each text alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_decoders import ARCHITECTURES
from test_engine import assert_close, gradients, make, pool

from embedllm.backbone import load_backbone
from embedllm.batches import packed
from embedllm.engine import ContrastiveStep
from embedllm.kernels.packing import Layout, packs, read_packed
from embedllm.kernels.shared_prefix import read_prefix
from embedllm.kernels.short_attention import LONGEST, short_attention
from embedllm.losses import InfoNCE
from embedllm.pooling import AttentionPooling, LastTokenPooling, MeanPooling

PREFIX = [3, 9, 4, 11]


def rows_of(*lengths: int, vocabulary: int = 50) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("shared", [False, True])
def test_states_are_those_of_each_text_alone(
    architecture: str, shared: bool, make_decoder: Callable[[str], Path]
) -> None:
    model: Any = load_backbone(str(make_decoder(architecture)), dtype="float32")
    if architecture == "gemma3":
        assert not packs(model, short_attention(model))  # its windows are narrower than some rows
        return
    assert packs(model, short_attention(model))
    rows = [PREFIX + row for row in rows_of(7, 5, 5, 2, 1)]
    prefix = read_prefix(model, PREFIX) if shared else None
    with short_attention(model):
        found = read_packed(model, rows, prefix)
    assert found.shape[:2] == (5, len(rows[0]))
    for row, states in zip(rows, found, strict=True):
        alone = model(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(states[: len(row)], alone, rtol=1e-4, atol=1e-5)
        assert not states[len(row) :].any()


def test_long_texts_stand_beside_short_ones(make_decoder: Callable[[str], Path]) -> None:
    model: Any = load_backbone(str(make_decoder("llama")), dtype="float32")
    for prefix in (None, read_prefix(model, PREFIX)):
        rows = [PREFIX + row for row in rows_of(LONGEST + 9, 3)]
        with short_attention(model):
            found = read_packed(model, rows, prefix)
        for row, states in zip(rows, found, strict=True):
            alone = model(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(states[: len(row)], alone, rtol=1e-4, atol=1e-5)


def test_a_backbone_whose_texts_see_each_other_is_found_out(tiny_path: Path) -> None:
    model: Any = load_backbone(str(tiny_path), dtype="float32")
    assert packs(model, short_attention(model))
    assert not packs(model)  # PyTorch's own attention knows no layout
    both: Any = load_backbone(str(tiny_path), dtype="float32", attention="bidirectional")
    assert not packs(both, short_attention(both))
    forward = model.forward
    model.forward = lambda position_ids=None, **options: forward(**options)
    assert not packs(model, short_attention(model))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_real_model_is_packed(smollm2_path: Path, dtype: str) -> None:
    model: Any = load_backbone(str(smollm2_path), dtype=dtype)
    assert packs(model, short_attention(model))


@pytest.mark.thinned(5)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("grad_cache", [False, True])
@pytest.mark.parametrize("head", [MeanPooling, LastTokenPooling, AttentionPooling])
def test_gradients_are_those_of_padded_texts_dropout_included(
    tiny_path: Path, head: type, grad_cache: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = make(tiny_path, head=head, dropout=dropout)
    step = ContrastiveStep(embedder, InfoNCE(0.1), micro_batch_tokens=60, grad_cache=grad_cache)
    assert embedder.packs_texts()
    report = step(pool(embedder), key=(0, 7))
    found = gradients(embedder)
    monkeypatch.setattr(type(embedder), "packs_texts", lambda _: False)
    padded = step(pool(embedder), key=(0, 7))
    assert report.loss == pytest.approx(padded.loss, rel=1e-5)
    assert report.padded_tokens == report.tokens < padded.padded_tokens
    assert_close(found, gradients(embedder))


def test_a_model_with_dropout_of_its_own_is_padded_in_training_alone(tiny_path: Path) -> None:
    embedder = make(tiny_path)
    assert embedder.packs_texts()
    embedder.backbone.config.attention_dropout = 0.1
    assert not embedder.train().packs_texts()
    assert embedder.eval().packs_texts()


@pytest.mark.parametrize("budget", [1, 60, 1000, 10_000])
@pytest.mark.parametrize("shared", [0, 4])
def test_batches_are_about_equal_and_within_the_budget(budget: int, shared: int) -> None:
    rows = rows_of(*(10 + (i * 37) % 90 for i in range(200)))
    batches = list(packed(rows, budget, shared))
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    tokens = [sum(len(rows[i]) - shared for i in batch) for batch in batches]
    assert all(count <= budget or len(batch) == 1 for count, batch in zip(tokens, batches, strict=True))
    longest = max(map(len, rows))
    if budget > 2 * longest:
        assert max(tokens) - min(tokens) <= 2 * longest
    order = [len(rows[i]) for batch in batches for i in batch]
    assert order == sorted(order, reverse=True)


def test_nothing_is_cut_into_nothing() -> None:
    assert list(packed([], 10)) == []


def test_a_layout_holds_the_texts_of_a_length_together() -> None:
    layout = Layout.of([7, 5, 5, 2], prefix=3)
    assert (layout.groups, layout.sizes, layout.prefix) == (((1, 7), (2, 5), (1, 2)), [7, 10, 2], 3)
