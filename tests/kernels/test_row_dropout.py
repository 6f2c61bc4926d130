"""Dropout keyed by text: its masks are random, and depend on nothing but text, layer and position."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from embedllm.kernels.row_dropout import (
    RowDropout,
    keep_mask,
    key_dropout,
    keyed_by,
    mask,
    masked,
    text_keys,
    token_hashes,
)

CPU = torch.device("cpu")


def keys(count: int, *key: int) -> Tensor:
    return text_keys(key or (0, 0, 0), range(count), CPU)


def drawn(keys: Tensor, number: int, shape: Sequence[int], p: float) -> Tensor:
    """Return zeros and ones, (B, *shape); all but the last axis of ``shape`` are tokens."""
    *tokens, width = shape
    hashes = token_hashes(keys, math.prod(tokens))
    return -keep_mask(hashes, number, width, p, torch.float64).view(len(keys), *shape).double()


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_the_mask_drops_its_share_independently(p: float) -> None:
    mask = drawn(keys(400), 3, (7, 143), p)
    kept = mask.flatten(1)
    assert mask.shape == (400, 7, 143)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert float(kept.mean()) == pytest.approx(1 - p, abs=4e-3)
    for step in (1, 4, 143):  # neighbours, and the next token
        assert abs(correlation(kept[:, :-step], kept[:, step:])) < 0.02
    assert abs(correlation(kept[:-1], kept[1:])) < 0.02  # texts
    spread = float(kept.mean(dim=1).std())
    assert spread == pytest.approx((p * (1 - p) / 1001) ** 0.5, rel=0.15)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_tokens_and_features_are_dropped_together_no_more_often_than_by_chance(p: float) -> None:
    """Four at the corners of a rectangle of two tokens and two features, and each two of them."""
    dropped = 1 - drawn(keys(300), 3, (2, 20, 2, 20), p)
    corners = dropped[:, 0, :, 0] * dropped[:, 0, :, 1] * dropped[:, 1, :, 0] * dropped[:, 1, :, 1]
    assert float(corners.mean()) == pytest.approx(p**4, abs=5 * (p**4 / corners.numel()) ** 0.5)
    for one, other in itertools.combinations(range(4), 2):
        pair = [dropped[:, corner // 2, :, corner % 2] for corner in (one, other)]
        assert abs(correlation(*pair)) < 0.02
    rows, columns = dropped.mean(dim=(3, 4)), dropped.mean(dim=(1, 2))
    assert float(rows.std()) == pytest.approx((p * (1 - p) / 40) ** 0.5, rel=0.1)
    assert float(columns.std()) == pytest.approx((p * (1 - p) / 40) ** 0.5, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_mask_is_the_same_in_every_dtype(dtype: torch.dtype) -> None:
    found = keep_mask(token_hashes(keys(3), 4), 1, 9, 0.5, dtype)
    assert found.dtype.itemsize == dtype.itemsize
    assert torch.equal(-found.double(), drawn(keys(3), 1, (4, 9), 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_what_is_masked_is_zero_and_the_rest_is_as_it_was(dtype: torch.dtype) -> None:
    x = torch.randn(40, 30).to(dtype)
    kept = torch.rand(40, 30) > 0.3
    assert torch.equal(masked(x, mask(kept, dtype)), torch.where(kept, x, torch.zeros_like(x)))


def test_hardly_two_tokens_of_a_layer_are_read_from_one_place() -> None:
    rows = drawn(keys(64), 5, (64, 48), 0.5).reshape(-1, 48)
    assert len(rows.unique(dim=0)) >= len(rows) - 16  # of 4,096 that have 2 million places, 4 pairs by chance


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def test_all_values_of_a_draw_are_equally_likely() -> None:
    shares = [float(drawn(keys(200), 1, (40, 100), p).mean()) for p in (0.1, 0.2, 0.35, 0.8, 0.99)]
    assert shares == pytest.approx([0.9, 0.8, 0.65, 0.2, 0.01], abs=2e-3)


def test_each_part_of_the_key_counts() -> None:
    reference = drawn(keys(5, 1, 2, 3), 7, (4, 50), 0.5)
    others = [drawn(keys(5, *key), 7, (4, 50), 0.5) for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1))]
    others.append(drawn(keys(5, 1, 2, 3), 8, (4, 50), 0.5))
    others.append(reference.roll(1, dims=0))
    for other in others:
        assert abs(correlation(reference, other)) < 0.1
    assert torch.equal(drawn(keys(5, 1, 2, 3), 7, (4, 50), 0.5), reference)


def test_neither_padding_nor_neighbours_change_a_mask() -> None:
    short = drawn(text_keys((0, 1), [4, 9], CPU), 2, (5, 6), 0.5)
    long = drawn(text_keys((0, 1), [9, 1, 4], CPU), 2, (11, 6), 0.5)
    assert torch.equal(short[0], long[2, :5])
    assert torch.equal(short[1], long[0, :5])


def test_a_layer_scales_what_it_keeps() -> None:
    model = nn.Sequential(nn.Dropout(0.25), nn.Dropout(0.25))
    key_dropout(model)
    first, second = model
    assert isinstance(first, RowDropout)
    x = torch.ones(3, 4, 100)
    with keyed_by(keys(3)):
        assert first(x).unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert torch.equal(first(x), first(x))
        assert not torch.equal(first(x), second(x))
        model.eval()
        assert torch.equal(first(x), x)
    model.train()
    assert not torch.equal(first(x), first(x))  # without keys a plain layer


@pytest.mark.parametrize("prefix", [0, 2])
def test_texts_in_one_row_are_dropped_as_in_rows_of_their_own(prefix: int) -> None:
    layer = nn.Sequential(nn.Dropout(0.5))
    key_dropout(layer)
    first = text_keys((0, 1), [-1], CPU) if prefix else None
    lengths = [6, 4, 4, 3]
    with keyed_by(keys(4), first, prefix):
        padded = layer(torch.ones(4, 6, 5))
    with keyed_by(keys(4), first, prefix, lengths):
        packed = layer(torch.ones(1, 17, 5))
    assert torch.equal(packed[0], torch.cat([row[:length] for row, length in zip(padded, lengths, strict=True)]))
    assert torch.equal(padded[0, :prefix], padded[1, :prefix])


def test_gradients_pass_where_the_input_is_kept() -> None:
    layer = nn.Sequential(nn.Dropout(0.5))
    key_dropout(layer)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)

    def dropped(values: Tensor) -> Tensor:
        with keyed_by(keys(2)):
            result: Tensor = layer(values)
        return result

    assert torch.autograd.gradcheck(dropped, (x,))


def test_an_input_without_a_row_for_each_text_is_dropped_by_the_key_of_the_first() -> None:
    layer = nn.Sequential(nn.Dropout(0.5))
    key_dropout(layer)
    with keyed_by(keys(2)):
        found = layer(torch.ones(7, 50))
        assert torch.equal(layer(torch.ones(7, 50)), found)
    with keyed_by(keys(2).flip(0)):
        assert not torch.equal(layer(torch.ones(7, 50)), found)
    assert found.unique().tolist() == [0.0, 2.0]
    assert 0.4 < float((found > 0).float().mean()) < 0.6
