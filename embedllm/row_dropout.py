"""Dropout whose draws belong to a text, not to the batch that it is computed in.

How a pool is cut into micro-batches must not change what is trained, dropout included. So the mask of a text is a
function of the text's key, the layer and the position: numbers that are hashed, instead of a generator whose state
depends on what was drawn before. A mask is a tensor of zeros and ones in the dtype of what it multiplies, which a CPU
makes and applies six times as fast as one of bools.

Legend: B texts, L tokens, I features.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 and, below, the multipliers of SplitMix64 (Steele et al., 2014)
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685
_ROUND = 73244475  # 0x45D9F3B, an odd multiplier that spreads low bits into high ones


class _Keys(NamedTuple):
    texts: Tensor
    """(B,) int64."""
    prefix: Tensor | None
    """(1,) int64."""
    prefix_tokens: int


_KEYS: ContextVar[_Keys | None] = ContextVar("keys", default=None)


class RowDropout(nn.Dropout):
    """A dropout layer whose mask is keyed by text inside :func:`keyed_by`; elsewhere it is a plain one."""

    number: int
    """Of the layer in its model."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input`` (B, L, I) with elements of each text dropped, the others scaled up."""
        kept = self.kept(input)
        return super().forward(input) if kept is None else input * kept.mul_(1 / (1 - self.p))

    def kept(self, input: Tensor) -> Tensor | None:
        """Return the mask, (B, L, I) zeros and ones in the dtype of ``input``; None: no key, or no dropout.

        A layer that is not given one row a text (of a mixture of experts, say) has no key.
        """
        keys = _KEYS.get()
        if keys is None or not self.training or not 0 < self.p < 1 or input.dim() < 2 or len(input) != len(keys.texts):
            return None
        tokens, *others = input.shape[1:]
        if keys.prefix is None or not others:
            return keep_mask(keys.texts, self.number, (tokens, *others), self.p, input.dtype)
        first = keep_mask(keys.prefix, self.number, (keys.prefix_tokens, *others), self.p, input.dtype)
        rest = keep_mask(keys.texts, self.number, (tokens - keys.prefix_tokens, *others), self.p, input.dtype)
        return torch.cat([first.expand(len(rest), *first.shape[1:]), rest], dim=1)


def key_dropout(model: nn.Module) -> None:
    """Let every dropout layer of ``model`` be keyed by text."""
    for number, module in enumerate(model.modules()):
        if type(module) is nn.Dropout:
            module.__class__ = RowDropout
            cast(RowDropout, module).number = number


@contextmanager
def keyed_by(keys: Tensor, prefix: Tensor | None = None, prefix_tokens: int = 0) -> Iterator[None]:
    """Key the dropout of the texts that are computed inside.

    Args:
        keys: (B,) int64, as of :func:`text_keys`.
        prefix: (1,) int64, key of the tokens that all texts begin with; None: those are keyed as the others.
        prefix_tokens: how many these are. The tokens after them are counted from there, so the draws are the same
            whether the prefix is computed with every text or once.
    """
    token = _KEYS.set(_Keys(keys, prefix, prefix_tokens))
    try:
        yield
    finally:
        _KEYS.reset(token)


def keyed_again() -> AbstractContextManager[None]:
    """Return a context that keys as it is here, for what is computed once more later: with other draws it would differ.

    The backward pass of a checkpointed block is such a case.
    """
    keys = _KEYS.get()
    return nullcontext() if keys is None else keyed_by(*keys)


def text_keys(key: Sequence[int], rows: Sequence[int], device: torch.device) -> Tensor:
    """Return the keys of texts, (B,) int64.

    Args:
        key: of the pool: (seed, step, pool).
        rows: place of each text in its pool. Equal texts at two places are dropped apart.
        device: of the tensor.
    """
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    start = int.from_bytes(digest[:8], "big", signed=True)
    return _mixed(start + _GOLDEN * torch.tensor(rows, dtype=torch.int64, device=device))


def keep_mask(keys: Tensor, number: int, shape: Sequence[int], p: float, dtype: torch.dtype) -> Tensor:
    """Return zeros with probability ``p``, and ones, (B, ...).

    An element of a text depends on the text's key, ``number`` and its place alone, so more tokens of padding change
    none before them. It is a product of two hashes, of the text's token and of the feature, mixed once more.

    Args:
        keys: (B,) int64.
        number: of the layer.
        shape: of one text, features last.
        p: in (0, 1).
        dtype: of the mask.
    """
    starts = _mixed(keys + _wrapped(number * _GOLDEN))
    tokens = _mixed(starts.unsqueeze(1) + _counters(torch.Size(shape[:-1]).numel(), keys.device))  # (B, L)
    bits = _odd(tokens).unsqueeze(-1) * _features(number, shape[-1], keys.device)  # (B, L, I) int32
    bits ^= bits >> 15
    bits *= _ROUND
    mask = torch.empty(bits.shape, dtype=dtype, device=bits.device)
    torch.ge(bits, round(p * 2**32) - 2**31, out=mask)
    return mask.view(len(keys), *shape)


@functools.lru_cache(maxsize=4096)
def _features(number: int, count: int, device: torch.device) -> Tensor:
    """Return a hash of each feature of a layer, (I,) int32."""
    start = torch.tensor(_wrapped(~number * _GOLDEN), device=device)
    return _odd(_mixed(_mixed(start) + _counters(count, device)))


def _odd(hashes: Tensor) -> Tensor:
    """Return the upper halves of int64 hashes as odd int32 numbers, which have an inverse modulo 2^32."""
    return (hashes >> 32).to(torch.int32).bitwise_or_(1)


def _wrapped(value: int) -> int:
    """Return ``value`` as an int64 that has overflowed."""
    return (value + 2**63) % 2**64 - 2**63


def _mixed(values: Tensor) -> Tensor:
    """Return a hash of each int64 of ``values``, in place: the finalizer of SplitMix64."""
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        values ^= (values >> shift).bitwise_and_(2 ** (64 - shift) - 1)  # torch shifts the sign in
        values *= factor
    values ^= (values >> 31).bitwise_and_(2**33 - 1)
    return values


@functools.lru_cache(maxsize=8)
def _counters(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device) * _GOLDEN
