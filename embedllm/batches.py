"""Cuts rows of unlike lengths into batches that waste little on padding, or, if they need none, into equal ones."""

import math
from collections.abc import Iterator, Sequence

PADDING = 64
"""Tokens of padding that cost less than another forward pass."""


def length_sorted(rows: Sequence[Sequence[int]], budget: int, shared: int = 0) -> Iterator[list[int]]:
    """Cut the indices of ``rows``, longest first, into batches of at most ``budget`` tokens, padding included.

    A row longer than the budget makes a batch of its own. The first ``shared`` tokens of each do not count. A batch
    ends before padding takes a tenth of it, or :data:`PADDING` tokens if those are more: rows that are packed without
    padding would save no more than that.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    sizes = [max(1, len(rows[i]) - shared) for i in order]
    start = 0
    while start < len(order):
        end, real = start + 1, sizes[start]
        while end < len(order):
            whole, real = (end - start + 1) * sizes[start], real + sizes[end]
            if whole > budget or whole - real > max(PADDING, 0.1 * whole):
                break
            end += 1
        yield order[start:end]
        start = end


def packed(rows: Sequence[Sequence[int]], budget: int, shared: int = 0) -> Iterator[list[int]]:
    """Cut the indices of ``rows``, longest first, into batches of about as many tokens each, at most ``budget``.

    A row longer than the budget makes a batch of its own. The first ``shared`` tokens of each do not count.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    sizes = [max(1, len(rows[i]) - shared) for i in order]
    total, room = sum(sizes), max(budget / 2, budget - max(sizes, default=0))  # a batch may end later than half a row
    even = total / (1 if total <= budget else math.ceil(total / room))
    batch, tokens, before, current = list[int](), 0, 0, 0
    for i, size in zip(order, sizes, strict=True):
        place = int((before + size / 2) / even)  # of the middle of the row
        if batch and (place != current or tokens + size > budget):
            yield batch
            batch, tokens = [], 0
        batch.append(i)
        tokens, before, current = tokens + size, before + size, place
    if batch:
        yield batch
