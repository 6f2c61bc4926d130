"""The temperature of a contrastive loss, fixed or learned."""

import math

import torch
from torch import Tensor, nn

from embedllm.errors import InputError

SMALLEST = 1e-4
LOWEST, HIGHEST = 0.005, 1.0
"""What a learned temperature is kept between; CLIP (Radford et al., 2021) stops at 0.01."""


class Temperature(nn.Module):
    """A positive number, by which cosines are divided.

    Args:
        start: its value; that of the first step if it is learned.
        learned: train its logarithm with the other weights, so that no step makes it negative.

    Raises:
        InputError: ``start`` is not a positive number, or is not between the bounds of a learned one.
    """

    def __init__(self, start: float, learned: bool = False) -> None:
        super().__init__()
        if not 0 < start < math.inf:
            raise InputError(f"loss.temperature: {start!r} is not a positive number")
        if start < SMALLEST:
            raise InputError(f"loss.temperature: {start!r} is too small for float32; the lowest value is {SMALLEST}")
        if learned and not LOWEST <= start <= HIGHEST:
            raise InputError(f"loss.temperature: {start!r} cannot be learned; it must be from {LOWEST} to {HIGHEST}")
        self.start = start
        self.log = nn.Parameter(torch.tensor(math.log(start))) if learned else None

    def forward(self) -> Tensor | float:
        """Return the temperature; a learned one has a gradient while it is within its bounds."""
        return self.start if self.log is None else self.log.exp().clamp(LOWEST, HIGHEST)
