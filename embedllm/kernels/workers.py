"""Threads that compute parts of a step beside each other, each on its share of the cores.

A matrix product of a few hundred rows is too small to be shared: two cores that each compute a micro-batch of their own
need a sixth less time than two that compute each product together.
"""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

LEAST = 512
"""Tokens that are worth a worker of their own."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def count_workers(tokens: int, threads: int) -> int:
    """Return how many workers share so many tokens, at least :data:`LEAST` each; the number divides ``threads``."""
    most = max(1, min(threads, tokens // LEAST))
    return next(count for count in range(most, 0, -1) if threads % count == 0)


def side_by_side(act: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return what ``act`` gives for each part, in their order; each is computed by a thread of its own.

    A thread has the context and the mode of gradients that this one has.

    Raises:
        Exception: the first of those that ``act`` raised, when all have ended.
    """
    if len(parts) < 2:
        return [act(part) for part in parts]
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()

    def work(part: Part) -> Result:
        torch.set_num_threads(max(1, threads // len(parts)))  # of this thread
        with torch.set_grad_enabled(gradients):
            return act(part)

    try:
        with ThreadPoolExecutor(len(parts)) as pool:
            futures = [pool.submit(contextvars.copy_context().run, work, part) for part in parts]
            return [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)
