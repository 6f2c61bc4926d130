"""Gradients that several threads compute at once, added up in one order, so that the sum is the same every time."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Sums = list[Tensor | None]


def summed(outputs: Iterable[tuple[Tensor, Tensor]], inputs: Sequence[Tensor]) -> Sums:
    """Return the gradient at each of ``inputs``, None where there is none; ``.grad`` is left alone.

    Args:
        outputs: pairs of an output and the gradient at it.
        inputs: leaves of the graphs.
    """
    sums: Sums = [None] * len(inputs)
    for output, gradient in outputs:
        sums = _added(sums, torch.autograd.grad(output, inputs, gradient, allow_unused=True))
    return sums


def accumulate(inputs: Sequence[Tensor], parts: Iterable[Sums]) -> None:
    """Add to the ``.grad`` of each of ``inputs`` what the parts have found for it."""
    sums: Sums = [tensor.grad for tensor in inputs]
    for part in parts:
        sums = _added(sums, part)
    for tensor, total in zip(inputs, sums, strict=True):
        tensor.grad = total


def _added(sums: Sums, others: Sequence[Tensor | None]) -> Sums:
    """Return the sums; nothing is added in place, since two inputs may have been given one tensor."""
    pairs = zip(sums, others, strict=True)
    return [other if total is None else total if other is None else total + other for total, other in pairs]
