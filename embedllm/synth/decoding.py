"""Write many answers with a decoder: each row stops at its own end and leaves the batch.

What makes it faster than a loop around ``generate``: a prefix that many rows share runs through the model once; rows of
like length stand together in large batches; a finished row costs nothing more; the cache is not copied for each token.

A row's draws come from its own generator, one for each token, so its text depends on its batch only as far as the
rounding of a matrix product does.

Legend: B rows, L tokens of the longest row after its prefix, P of the longest prefix, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

from embedllm.synth.kv_cache import States, has_plain_cache, merged, prefix_states
from embedllm.synth.reading import Request, forward, read
from embedllm.synth.sampling import Sampling

_PREFILL_ROWS = 16
"""Rows whose prompts are read together: the longest of them decides the padding of these only."""


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
        batch_rows: rows of one batch at most.
        batch_tokens: tokens that a batch has room for, prefixes and answers included.
    """

    def __init__(
        self, model: Any, stop: Sequence[int], sampling: Sampling, *, batch_rows: int, batch_tokens: int
    ) -> None:
        self.model = model
        self.stop = frozenset(stop)
        self.sampling = sampling
        self.batch_rows, self.batch_tokens = batch_rows, batch_tokens
        self.plain = has_plain_cache(model)
        self._prefixes: dict[tuple[int, ...], States] = {}

    @torch.inference_mode()
    def write(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers in the order of their requests."""
        if not self.plain:
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
        room = max(request.most for request in requests)
        size = _PREFILL_ROWS if decoding.plain else len(requests)
        states = decoding.states if decoding.plain else None
        parts = [read(decoding.model, requests[i : i + size], states) for i in range(0, len(requests), size)]
        self.cache = merged([part.cache for part in parts], room) if decoding.plain else parts[0].cache
        longest = max(part.mask.size(1) for part in parts)
        self.mask = torch.cat([pad(part.mask, (longest - part.mask.size(1), 0)) for part in parts])  # (B, P + L)
        self.logits = torch.cat([part.logits for part in parts])  # (B, V)

    def run(self) -> list[Answer]:
        """Return the answers."""
        positions = self.mask.sum(dim=1, keepdim=True)  # (B, 1), of the next token
        while True:
            uniform = torch.tensor([self.requests[row].rng.random() for row in self.rows], device=self.mask.device)
            tokens = self.decoding.sampling(self.logits, uniform)  # (B,)
            active = [self._take(row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
            if not any(active):
                return [Answer(*answer) for answer in zip(self.written, self.finished, strict=True)]
            if self.decoding.plain and sum(active) <= 0.85 * len(active):  # moving rows has a cost too
                kept = torch.tensor([i for i, goes_on in enumerate(active) if goes_on], device=tokens.device)
                self.rows = [self.rows[i] for i in kept.tolist()]
                self.cache.batch_select_indices(kept)
                tokens, positions, self.mask = tokens[kept], positions[kept], self.mask[kept]
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.rows), 1)], dim=1)
            self.logits = forward(self.decoding.model, tokens.unsqueeze(1), self.mask, positions, self.cache)
            positions = positions + 1

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
