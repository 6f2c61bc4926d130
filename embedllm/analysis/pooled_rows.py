"""The attention of the pooled position: the rows of attention that end up in the vector of a text.

The vector is made of the states of some positions: the last token, or all of them. For each layer and head we keep the
rows of attention of those positions, averaged with the weights that the states have in the vector
(:meth:`embedllm.pooling.PoolingHead.token_weights`). So for the last token, or EOS, it is that token's row; for the
mean, the average over the rows of all pooled tokens; for a mean with weights, fixed or learned, the average with those;
for mean and last token side by side, half of each; for the maximum, each token's row counts as often as it wins a
dimension. It sums to one.

Fast kernels return no attention weights, so the model's own eager implementation computes them. One layer's square of
weights is there at a time, and only the averaged row of each text is kept.

Legend: B texts, L tokens of the longest, n of one, H heads, N layers with attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from embedllm.batches import length_sorted
from embedllm.decoder import blocks, eval_mode
from embedllm.embedder import Embedder, TokenBatch
from embedllm.errors import InputError

Floats = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """The attention of the pooled position of one text."""

    layers: tuple[int, ...]
    """Numbers, from 1, of the N blocks that have attention."""
    weights: Floats
    """(N, H, n)."""
    pooled: Floats
    """(n,) how much each position counts in the vector; sums to one."""


@torch.no_grad()
def pooled_rows(
    embedder: Embedder, rows: Sequence[Sequence[int]], batch_tokens: int | None = None
) -> Iterator[tuple[int, Rows]]:
    """Yield the index of each text and the attention of its pooled position, the longest texts first.

    Args:
        embedder: in evaluation mode while this runs.
        rows: token ids of the texts.
        batch_tokens: of one forward pass, padding included; None: 512 on a CPU, 8,192 on an accelerator.

    Raises:
        InputError: the model gives no attention weights.
    """
    budget = batch_tokens or (512 if embedder.device.type == "cpu" else 8_192)
    with eval_mode(embedder):
        for batch in length_sorted(rows, budget):
            tokens = embedder.collate([rows[i] for i in batch])
            weights = _position_weights(embedder, tokens)
            with eager_attention(embedder.backbone), _kept_rows(embedder.backbone, weights) as kept:
                embedder(*tokens)
            if not kept:
                raise InputError(
                    f"RUN: the model {embedder.spec.name!r} returns attention weights in none of its layers, so there "
                    "is no attention to show; give a transformer"
                )
            layers = sorted(kept)
            found = torch.stack([kept[layer] for layer in layers], dim=1).double().cpu().numpy()  # (B, N, H, L)
            positions = weights.double().cpu().numpy()
            for place, i in enumerate(batch):
                size = len(rows[i])
                yield i, Rows(tuple(layers), found[place, ..., :size], positions[place, :size])


@contextmanager
def eager_attention(backbone: Any) -> Iterator[None]:
    """Compute attention by the model's own eager implementation, which returns its weights, while inside."""
    config = backbone.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def implementation(embedder: Embedder) -> str:
    """Return the name of the attention that the model computes vectors with."""
    backbone: Any = embedder.backbone
    return str(backbone.config.get_text_config(decoder=True)._attn_implementation)


def head_name(embedder: Embedder) -> str:
    """Return the class of the pooling head, and which tokens it sees if not all."""
    head = embedder.head
    return type(head).__name__ + ("" if head.pool_over == "all" else f" over the {head.pool_over}")


def check_layer(embedder: Embedder, layer: int | None) -> None:
    """Raise if the model has no attention in the layer of this number; None is any."""
    if layer is None:
        return
    (_, found), *_ = pooled_rows(embedder, embedder.tokenize(["x"]))
    check_number(layer, found.layers)


def check_number(layer: int, layers: Sequence[int]) -> None:
    """Raise if ``layer`` is none of ``layers``, which are those with attention."""
    if layer not in layers:
        raise InputError(f"--layer: {layer} is no layer with attention; they are {_numbers(layers)}")


def _numbers(layers: Sequence[int]) -> str:
    if len(layers) == layers[-1] - layers[0] + 1:
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))


def _position_weights(embedder: Embedder, tokens: TokenBatch) -> Tensor:
    """Return how much each position counts in the vectors, (B, L)."""
    width = tokens.input_ids.size(1)
    mask = embedder.pooled_tokens(tokens.lengths, width)
    if not embedder.head.weighs_by_state:
        hidden = torch.zeros(*mask.shape, embedder.head.hidden_size, device=mask.device)
        return embedder.head.token_weights(hidden, mask)
    states: list[Tensor] = []
    handle = embedder.head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    try:
        embedder(*tokens)
    finally:
        handle.remove()
    return embedder.head.token_weights(states[0], mask)


@contextmanager
def _kept_rows(backbone: Any, weights: Tensor) -> Iterator[dict[int, Tensor]]:
    """Yield a mapping that gets the averaged rows, (B, H, L), of each block by its number, from 1, as it is run.

    A part of a block that attends returns its states and its weights, (B, H, L, L).
    """
    kept: dict[int, Tensor] = {}

    def hook(number: int) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, tuple) or len(output) < 2 or not isinstance(output[1], Tensor):
                return
            if output[1].dim() == 4 and output[1].shape[2:] == (weights.size(1),) * 2:
                dtype = torch.promote_types(output[1].dtype, torch.float32)
                kept[number] = torch.einsum("bhlm,bl->bhm", output[1].to(dtype), weights.to(dtype))

        return keep

    handles = [
        part.register_forward_hook(hook(number))
        for number, block in enumerate(blocks(backbone), start=1)
        for part in block.children()
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
