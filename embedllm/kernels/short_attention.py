"""Attention over short texts on a CPU: plain matrix products instead of a kernel that is made for long ones.

The gradient of PyTorch's flash attention takes a fifth of a training step on texts of 22 tokens, where the scores that
it avoids to keep are smaller than the states themselves. Key and value heads that several query heads share are not
repeated. In a row of packed texts (:mod:`embedllm.kernels.packing`) those of each length are computed together.

Legend: B texts, H query heads, K key and value heads, L tokens, M tokens that are looked at, d width of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from embedllm.kernels.packing import Layout, layout

NAME = "embedllm_short"
LONGEST = 128
"""Tokens up to which the plain products are faster."""


@contextmanager
def short_attention(model: Any) -> Iterator[None]:
    """Compute short texts by :func:`attention` while inside, if ``model`` is on a CPU and uses PyTorch's attention.

    Args:
        model: of transformers, with or without an adapter.
    """
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    if before != "sdpa" or model.device.type != "cpu":
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention of transformers' layers, (B, L, H, d), and None in place of its weights.

    What it is not made for (long texts, dropout, a cache, biases by position) is left to PyTorch's own.

    Args:
        module: the layer, asked for ``is_causal`` if that is None.
        query: (B, H, L, d).
        key: (B, K, M, d), M being L, or more with a mask.
        value: (B, K, M, d).
        attention_mask: broadcasts to (B, H, L, M): True where a token is seen, or what is added to the scores; None:
            all tokens, or those before if causal.
        dropout: of the attention.
        scaling: of the scores; None: 1 / sqrt(d).
        is_causal: see ``attention_mask``.
        options: of the model.
    """
    packed = None if torch.compiler.is_compiling() else layout()  # compiled blocks read whole texts, one a row
    if packed is not None:
        return _of_packed(module, query, key, value, packed, scaling), None
    length, seen = query.size(2), key.size(2)  # L, M
    special = any(options.get(name) is not None for name in ("cache", "position_bias", "softcap"))
    uneven = attention_mask is None and seen != length
    if special or uneven or dropout or seen > LONGEST or query.device.type != "cpu":
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **options
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and causal:
        attention_mask = _triangle(length, length)
    return _products(query, key, value, attention_mask, scaling), None


def _products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Return attention by plain products, (B, L, H, d)."""
    batch, heads, length, width = query.shape
    groups, seen = batch * key.size(1), key.size(2)
    rows = query.reshape(groups, -1, width)  # (B K, H / K L, d)
    scores = torch.bmm(rows, key.reshape(groups, seen, width).transpose(1, 2))  # (B K, H / K L, M)
    scores = scores.view(batch, heads, length, seen).to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores * (width**-0.5 if scaling is None else scaling)
    if mask is not None:
        unseen = torch.finfo(scores.dtype).min  # finite, since padding may see nothing at all
        scores = scores.masked_fill(~mask, unseen) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(dim=-1).to(value.dtype).view(groups, -1, seen)
    states = torch.bmm(weights, value.reshape(groups, seen, -1)).view(batch, heads, length, -1)
    return states.transpose(1, 2).contiguous()


def _of_packed(module: Any, query: Tensor, key: Tensor, value: Tensor, packed: Layout, scaling: float | None) -> Tensor:
    """Return the causal attention of packed texts, (1, T, H, d), whose prefix is at the start of key and value."""
    states = []
    queries = torch.split(query, packed.sizes, dim=2)
    before_key, *keys = torch.split(key, [packed.prefix, *packed.sizes], dim=2)
    before_value, *values = torch.split(value, [packed.prefix, *packed.sizes], dim=2)
    for (count, length), q, k, v in zip(packed.groups, queries, keys, values, strict=True):
        q, k, v = (torch.unflatten(x[0], 1, (count, length)).transpose(0, 1) for x in (q, k, v))  # (count, ., L, d)
        mask = None
        if packed.prefix:
            k = torch.cat([before_key.expand(count, -1, -1, -1), k], dim=2)
            v = torch.cat([before_value.expand(count, -1, -1, -1), v], dim=2)
        if packed.prefix or length <= LONGEST:
            mask = _triangle(length, packed.prefix + length).to(torch.promote_types(q.dtype, torch.float32))
        if length <= LONGEST:
            found = _products(q, k, v, mask, scaling)
        else:
            mask = None if mask is None else mask.to(q.dtype)
            found, _ = sdpa_attention_forward(module, q, k, v, mask, scaling=scaling)
        states.append(found.flatten(0, 1))
    return torch.cat(states).unsqueeze(0)


def _triangle(length: int, seen: int) -> Tensor:
    """Return what is added to causal scores, (L, M): adding is faster than filling."""
    return torch.full((length, seen), -torch.inf).triu(1 + seen - length)


def _mask(*args: Any, **options: Any) -> Tensor | None:
    """Return the mask of PyTorch's attention, which packed texts need none of."""
    return None if layout() is not None else sdpa_mask(*args, **options)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
