"""Weights that are not trained, in a lower precision for as long as a training step lasts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def lowered(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Round the frozen float32 weights of ``model`` to ``dtype`` while inside, and give them back as they were.

    Autocast rounds them too, but anew in every layer of every micro-batch, and leaves the states between the layers in
    float32.

    Args:
        model: any.
        dtype: of the computation; None: nothing changes.
    """
    frozen = (
        [] if dtype is None else [p for p in model.parameters() if not p.requires_grad and p.dtype == torch.float32]
    )
    kept = [parameter.data for parameter in frozen]
    try:
        for parameter in frozen:
            parameter.data = parameter.data.to(dtype)
        yield
    finally:
        for parameter, data in zip(frozen, kept, strict=True):
            parameter.data = data
