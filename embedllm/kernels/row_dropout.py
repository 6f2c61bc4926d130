"""Dropout whose draws belong to a text, not to the batch that it is computed in.

How a pool is cut into micro-batches must not change what is trained, dropout included. So what is dropped of a token is
a function of the text's key, the layer and the position: a hash of these says where on one long tape of random draws
the features of the token are read. To copy a stretch of a tape takes a tenth of the time of drawing it.

A mask is a tensor of integers as wide as the numbers that it is applied to, 0 where one is dropped and -1 (all bits)
where it is kept, since a bitwise "and" takes less than half the time of a product.

Legend: B texts, L tokens, I features.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor, nn

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 and, below, the multipliers of SplitMix64 (Steele et al., 2014)
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685
_STARTS = 21
"""Bits of a place on the tape. Two tokens of a layer are read from the same one with a chance of 1 in 2 million."""
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Keys:
    """What the draws of a micro-batch depend on.

    Args:
        texts: (B,) int64.
        prefix: (1,) int64, or None.
        prefix_tokens: how many tokens it is for.
        lengths: tokens of each text if all stand in one row, else None.
    """

    def __init__(self, texts: Tensor, prefix: Tensor | None, prefix_tokens: int, lengths: Sequence[int] | None) -> None:
        self.texts, self.prefix, self.prefix_tokens, self.lengths = texts, prefix, prefix_tokens, lengths
        self.rows = len(texts) if lengths is None else 1
        self._hashes: dict[int, Tensor] = {}

    def hashes(self, tokens: int) -> Tensor:
        """Return a hash of each token, (rows, tokens) int64; all layers start from the same."""
        if tokens not in self._hashes:
            if self.lengths is None:
                self._hashes[tokens] = self._of_texts(tokens)
            else:
                padded = zip(self._of_texts(max(self.lengths)), self.lengths, strict=True)
                self._hashes[tokens] = torch.cat([hashes[:length] for hashes, length in padded]).unsqueeze(0)
        return self._hashes[tokens]

    def _of_texts(self, tokens: int) -> Tensor:
        """Return a hash of the first tokens of each text, (B, tokens) int64."""
        if self.prefix is None:
            return token_hashes(self.texts, tokens)
        first = token_hashes(self.prefix, self.prefix_tokens).expand(len(self.texts), -1)
        return torch.cat([first, token_hashes(self.texts, max(0, tokens - self.prefix_tokens))], dim=1)


_KEYS: ContextVar[_Keys | None] = ContextVar("keys", default=None)


class RowDropout(nn.Dropout):
    """A dropout layer whose mask is keyed by text inside :func:`keyed_by`; elsewhere it is a plain one."""

    number: int
    """Of the layer in its model."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input`` (B, L, I) with elements of each text dropped, the others scaled up."""
        kept = self.kept(input)
        return super().forward(input) if kept is None else input.masked_fill(kept == 0, 0) * (1 / (1 - self.p))

    def kept(self, input: Tensor) -> Tensor | None:
        """Return the mask, (B, L, I) integers; None: no key, or no dropout.

        A layer that is not given one row a text (of a mixture of experts, say) draws by the key of the first text.
        """
        keys = _KEYS.get()
        if keys is None or not self.training or not 0 < self.p < 1 or input.dim() < 2:
            return None
        if len(input) != keys.rows:
            hashes = token_hashes(keys.texts[:1], input.numel() // input.size(-1)).view(input.shape[:-1])
        else:
            hashes = keys.hashes(input.size(1) if input.dim() > 2 else 1)
        width = input.numel() // max(1, hashes.numel())
        return keep_mask(hashes, self.number, width, self.p, input.dtype).view(input.shape)


def key_dropout(model: nn.Module) -> None:
    """Let every dropout layer of ``model`` be keyed by text."""
    for number, module in enumerate(model.modules()):
        if type(module) is nn.Dropout:
            module.__class__ = RowDropout
            cast(RowDropout, module).number = number


@contextmanager
def keyed_by(
    keys: Tensor, prefix: Tensor | None = None, prefix_tokens: int = 0, lengths: Sequence[int] | None = None
) -> Iterator[None]:
    """Key the dropout of the texts that are computed inside.

    Args:
        keys: (B,) int64, as of :func:`text_keys`.
        prefix: (1,) int64, key of the tokens that all texts begin with; None: those are keyed as the others.
        prefix_tokens: how many these are. The tokens after them are counted from there, so the draws are the same
            whether the prefix is computed with every text or once.
        lengths: tokens of each text if all stand one after another in one row; None: there is a row for each.
    """
    with _set(_Keys(keys, prefix, prefix_tokens, lengths)):
        yield


@contextmanager
def _set(keys: _Keys) -> Iterator[None]:
    token = _KEYS.set(keys)
    try:
        yield
    finally:
        _KEYS.reset(token)


def keyed_again() -> AbstractContextManager[None]:
    """Return a context that keys as it is here, for what is computed once more later: with other draws it would differ.

    The backward pass of a checkpointed block is such a case.
    """
    keys = _KEYS.get()
    return nullcontext() if keys is None else _set(keys)


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


def token_hashes(keys: Tensor, tokens: int) -> Tensor:
    """Return a hash of the first tokens of texts, (B, tokens) int64; more tokens change none before them.

    Args:
        keys: (B,) int64.
        tokens: of each text.
    """
    return _mixed(keys.unsqueeze(1) + _GOLDEN * torch.arange(1, tokens + 1, device=keys.device))


def keep_mask(hashes: Tensor, number: int, width: int, p: float, dtype: torch.dtype) -> Tensor:
    """Return integers that are 0 with probability ``p``, and else -1, (..., width).

    Args:
        hashes: (...) int64 of tokens.
        number: of the layer.
        width: numbers of a token.
        p: in (0, 1).
        dtype: of what is masked; the integers are as wide.
    """
    factor = _wrapped(_layer_hash(number) | 1)  # odd: multiply-shift hashing (Dietzfelbinger et al., 1997)
    starts = (hashes * factor >> 64 - _STARTS).bitwise_and_(2**_STARTS - 1)  # torch shifts the sign in
    tape = _tape(p, dtype, width, hashes.device)
    return tape.index_select(0, starts.flatten()).view(*hashes.shape, width)


def mask(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask for numbers of ``dtype`` from one of bools."""
    return -kept.to(_INTEGERS[dtype.itemsize])


def masked(x: Tensor, kept: Tensor) -> Tensor:
    """Return ``x`` with zeros where the mask ``kept``, of as many elements, says so; without a gradient."""
    return (x.view(kept.dtype) & kept.view(x.shape)).view(x.dtype)


@functools.lru_cache(maxsize=32)
def _tape(p: float, dtype: torch.dtype, width: int, device: torch.device) -> Tensor:
    """Return all stretches of a tape of draws as rows that overlap, (2^_STARTS, width)."""
    draws = _draws(p, dtype, 2**_STARTS + max(2**16, width), device)
    return draws.as_strided((2**_STARTS, width), (1, 1))


@functools.lru_cache(maxsize=4)
def _draws(p: float, dtype: torch.dtype, count: int, device: torch.device) -> Tensor:
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return mask(uniform >= p, dtype).to(device)


@functools.cache
def _layer_hash(number: int) -> int:
    digest = hashlib.sha256(str(number).encode()).digest()
    return int.from_bytes(digest[:8], "big")


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
