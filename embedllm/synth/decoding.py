"""Write many answers with a decoder: each row stops at its own end and leaves the batch.

What makes it faster than a loop around ``generate``: a prefix that many rows share runs through the model once; rows of
like length stand together in large batches; a finished row costs nothing more; the cache is not copied for each token.

A row's draws come from its own generator, one for each token, so its text depends on its batch only as far as the
rounding of a matrix product does.

Legend: B rows, L tokens of the longest row after its prefix, P of the longest prefix, V vocabulary.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from embedllm.synth.kv_cache import States, has_plain_cache, joined, prefix_states
from embedllm.synth.sampling import Sampling


class Request(NamedTuple):
    """An answer to be written."""

    prefix: tuple[int, ...]
    """Tokens that other requests begin with too."""
    ids: tuple[int, ...]
    """Tokens that follow; at least one."""
    most: int
    """Tokens that the answer may have."""
    rng: random.Random


class Answer(NamedTuple):
    """What was written."""

    ids: list[int]
    """Tokens, without the one that ends the answer."""
    finished: bool
    """False: it was cut at the most tokens."""


class Decoding:
    """Writes answers.

    Args:
        model: a causal language model in eval mode.
        stop: tokens that end an answer.
        sampling: how tokens are drawn.
        pad: any token; it is never looked at.
        batch_rows: rows of one batch at most.
        batch_tokens: tokens that a batch has room for, prefixes and answers included.
    """

    def __init__(
        self, model: Any, stop: Sequence[int], sampling: Sampling, *, pad: int, batch_rows: int, batch_tokens: int
    ) -> None:
        self.model = model
        self.stop = frozenset(stop)
        self.sampling = sampling
        self.pad = pad
        self.batch_rows, self.batch_tokens = batch_rows, batch_tokens
        self._plain = has_plain_cache(model)
        self._prefixes: dict[tuple[int, ...], States] = {}

    @torch.inference_mode()
    def write(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers in the order of their requests."""
        if not self._plain:
            requests = [request._replace(prefix=(), ids=request.prefix + request.ids) for request in requests]
        answers: dict[int, Answer] = {}
        for batch in self._batches(requests):
            answers |= dict(zip(batch, _Batch(self, [requests[i] for i in batch]).run(), strict=True))
        return [answers[i] for i in range(len(requests))]

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Yield indices of requests, those with the longest texts first."""
        batch: list[int] = []
        tokens = 0
        for i in sorted(range(len(requests)), key=lambda i: (-len(requests[i].ids), -requests[i].most, i)):
            request = requests[i]
            tokens = max(tokens, len(request.prefix) + len(request.ids) + request.most)
            if batch and (len(batch) == self.batch_rows or tokens * (len(batch) + 1) > self.batch_tokens):
                yield batch
                batch, tokens = [], len(request.prefix) + len(request.ids) + request.most
            batch.append(i)
        if batch:
            yield batch

    def states(self, prefix: tuple[int, ...]) -> States:
        """Return the states of a prefix."""
        if prefix not in self._prefixes:
            self._prefixes[prefix] = prefix_states(self.model, prefix)
        return self._prefixes[prefix]


class _Batch:
    """Rows that are written together."""

    def __init__(self, decoding: Decoding, requests: Sequence[Request]) -> None:
        self.decoding = decoding
        self.requests = requests
        self.written: list[list[int]] = [[] for _ in requests]
        self.finished = [False] * len(requests)
        self.rows = list(range(len(requests)))
        """Indices of the requests that the tensors still hold."""
        longest = max(len(request.ids) for request in requests)
        room = longest + max(request.most for request in requests)
        shared = bool(requests[0].prefix)
        self.cache = (
            joined([decoding.states(request.prefix) for request in requests], room)
            if shared
            else DynamicCache(config=decoding.model.config)
        )
        prefixes = [_left_padded([1] * len(request.prefix), self.cache.get_seq_length(), 0) for request in requests]
        device = decoding.model.device
        ids = [_left_padded(request.ids, longest, decoding.pad) for request in requests]
        real = [_left_padded([1] * len(request.ids), longest, 0) for request in requests]
        self.ids = torch.tensor(ids, device=device)  # (B, L), later (B, 1)
        self.mask = torch.tensor([p + r for p, r in zip(prefixes, real, strict=True)], device=device)  # (B, P + L)

    def run(self) -> list[Answer]:
        """Return the answers."""
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self.ids.size(1) :]  # (B, L)
        while True:
            tokens = self._step(positions)
            active = [self._take(row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
            if not any(active):
                return [Answer(*answer) for answer in zip(self.written, self.finished, strict=True)]
            self.ids = tokens.unsqueeze(1)
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if self.decoding._plain and sum(active) <= 0.85 * len(active):  # moving rows has a cost too
                positions = self._keep(active, positions)

    def _step(self, positions: Tensor) -> Tensor:
        """Return the next token of each row, (B,)."""
        logits = self.decoding.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]  # (B, V)
        uniform = [self.requests[row].rng.random() for row in self.rows]
        return self.decoding.sampling(logits, torch.tensor(uniform, device=logits.device))

    def _take(self, row: int, token: int) -> bool:
        """Add a token to a row and return whether the row goes on."""
        written, most = self.written[row], self.requests[row].most
        if self.finished[row] or len(written) >= most:
            return False
        if token in self.decoding.stop:
            self.finished[row] = True
            return False
        written.append(token)
        return len(written) < most

    def _keep(self, active: Sequence[bool], positions: Tensor) -> Tensor:
        kept = torch.tensor([i for i, goes_on in enumerate(active) if goes_on], device=self.ids.device)
        self.rows = [self.rows[i] for i in kept.tolist()]
        self.cache.batch_select_indices(kept)
        self.ids, self.mask = self.ids[kept], self.mask[kept]
        return positions[kept]


def _left_padded(values: Sequence[int], length: int, filler: int) -> list[int]:
    return [filler] * (length - len(values)) + list(values)
