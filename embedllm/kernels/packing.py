"""Texts that are read one after another in one row, without padding, as if each were alone.

Most of a decoder treats every token by itself, and for that part texts of any length can stand side by side. Attention
alone must not look from one text into another: it is computed for the texts of each length apart
(:mod:`embedllm.kernels.short_attention`). Positions start anew in each text, so its states are those that it has alone.

Legend: B texts, T tokens of all of them, L tokens of the longest with its prefix, D hidden size.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from embedllm.decoder import equal_states, eval_mode
from embedllm.kernels.shared_prefix import Prefix, read_prefix

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Where the texts of a row stand: those of one length beside each other."""

    groups: tuple[tuple[int, int], ...]
    """How many texts, and of how many tokens."""
    prefix: int
    """Tokens that all texts see before their own."""

    @classmethod
    def of(cls, lengths: Sequence[int], prefix: int = 0) -> "Layout":
        """Return the layout of texts with so many tokens each, the prefix left out."""
        return cls(tuple((len(list(same)), length) for length, same in itertools.groupby(lengths)), prefix)

    @property
    def sizes(self) -> list[int]:
        """Tokens of each group."""
        return [count * length for count, length in self.groups]


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout", default=None)


def layout() -> Layout | None:
    """Return the layout of the row that is computed; None: it is a plain batch."""
    return _LAYOUT.get()


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Let the attention inside be that of the texts of ``layout``."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


def read_packed(backbone: Any, rows: Sequence[Sequence[int]], prefix: Prefix | None = None) -> Tensor:
    """Return the hidden states of texts, (B, L, D), with zeros after the end of each.

    Args:
        backbone: one of which :func:`packs` is true, inside :func:`~embedllm.kernels.short_attention.short_attention`.
        rows: token ids of the texts, those of one length beside each other.
        prefix: the states of what all the texts begin with, if they are known.
    """
    start = 0 if prefix is None else prefix.length
    lengths = [len(row) - start for row in rows]
    device = backbone.get_input_embeddings().weight.device
    ids = torch.tensor([[token for row in rows for token in row[start:]]], device=device)
    positions = torch.cat([torch.arange(start, start + length, device=device) for length in lengths])
    cache = None if prefix is None else DynamicCache(prefix.states, config=backbone.config)
    with laid_out(Layout.of(lengths, start)):
        output = backbone(
            input_ids=ids, position_ids=positions.unsqueeze(0), past_key_values=cache, use_cache=cache is not None
        )
    parts = list(output.last_hidden_state[0].split(lengths))
    if prefix is not None:
        parts = [torch.cat([prefix.hidden[0], part]) for part in parts]
    return pad_sequence(parts, batch_first=True)


def packs(backbone: Any, attention: AbstractContextManager[None] | None = None) -> bool:
    """Return whether texts that stand in one row have the states that they have alone, with a prefix and without.

    Args:
        backbone: any.
        attention: what makes its attention heed a layout.
    """
    config = backbone.config.get_text_config(decoder=True)
    if getattr(config, "sliding_window", None):  # its cache would forget the prefix
        return False
    weights = backbone.get_input_embeddings().weight
    start = [0, 1]
    rows = [[*start, *(i % min(7, len(weights)) for i in range(n, n + length))] for n, length in enumerate((5, 3, 3))]
    try:
        with torch.no_grad(), eval_mode(backbone), attention or nullcontext():
            together = [read_packed(backbone, rows, prefix) for prefix in (None, read_prefix(backbone, start))]
            for i, row in enumerate(rows):
                ids = torch.tensor([row], device=weights.device)
                alone = backbone(input_ids=ids, use_cache=False).last_hidden_state[0]
                if not all(equal_states(states[i, : len(row)], alone) for states in together):
                    return False
        return True
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        log.debug("texts are padded: %s", error)
        return False
