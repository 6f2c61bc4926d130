"""Run the prompts of a batch through a language model, up to the logits of the first token of each answer.

Legend: B rows, L tokens of the longest row after its prefix, P of the longest prefix, V vocabulary.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from embedllm.synth.kv_cache import States, joined


class Request(NamedTuple):
    """An answer to be written."""

    prefix: tuple[int, ...]
    """Tokens that other requests begin with too."""
    ids: tuple[int, ...]
    """Tokens that follow; at least one."""
    most: int
    """Tokens that the answer may have."""
    rng: random.Random


class Read(NamedTuple):
    """What a model has read of some requests."""

    cache: Cache
    mask: Tensor
    """(B, P + L)."""
    logits: Tensor
    """(B, V), of the first token of the answers."""


def read(model: Any, requests: Sequence[Request], states: Callable[[tuple[int, ...]], States] | None) -> Read:
    """Run the prompts of requests through the model.

    Args:
        model: a causal language model.
        requests: what is read.
        states: returns those of a prefix; None: prefixes are not shared, and empty.
    """
    longest = max(len(request.ids) for request in requests)
    if states is None:
        cache: Cache = DynamicCache(config=model.config)
    else:
        cache = joined([states(request.prefix) for request in requests], longest)
    rows = [
        _left_padded([1] * len(request.prefix), cache.get_seq_length(), 0)
        + _left_padded([1] * len(request.ids), longest, 0)
        for request in requests
    ]
    mask = torch.tensor(rows, device=model.device)
    ids = torch.tensor([_left_padded(request.ids, longest, 0) for request in requests], device=model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -longest:]  # (B, L)
    return Read(cache, mask, forward(model, ids, mask, positions, cache))


def forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
    """Return the logits after the last token of each row, (B, V)."""
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def _left_padded(values: Sequence[int], length: int, filler: int) -> list[int]:
    return [filler] * (length - len(values)) + list(values)
