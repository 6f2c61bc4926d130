"""Vectors whose first entries are vectors too."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from embedllm.errors import InputError


class Matryoshka(nn.Module):
    """The mean of a loss over the first entries of all vectors, for several widths (Kusupati et al., 2022).

    Args:
        loss: any loss of this package.
        widths: how many entries; the full width is one of them only if it is named.
        weights: of each width in the mean; None: all equal.

    Raises:
        InputError: there is no width, two are equal, or the weights do not fit.
    """

    def __init__(self, loss: nn.Module, widths: Sequence[int], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss, self.widths = loss, list(widths)
        if not self.widths or len(set(self.widths)) < len(self.widths) or min(self.widths) < 1:
            raise InputError(f"loss.widths: {self.widths!r} is not a list of different positive widths")
        self.weights = [1.0] * len(self.widths) if weights is None else list(weights)
        if len(self.weights) != len(self.widths) or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise InputError(f"loss.weights: {self.weights!r} is not one positive number for each of {self.widths!r}")

    def negatives_per_anchor(self, pairs: int, hard: int) -> int:
        """Return what the loss returns; see :meth:`embedllm.losses.infonce.InfoNCE.negatives_per_anchor`."""
        count: int = self.loss.negatives_per_anchor(pairs, hard)  # type: ignore[operator]
        return count

    def check_width(self, size: int) -> None:
        """Raise an InputError if vectors of ``size`` entries have no first ``widths`` ones."""
        if max(self.widths) > size:
            raise InputError(f"loss.widths: {max(self.widths)} is more than the {size} of a vector")

    def forward(self, anchors: Tensor, positives: Tensor, *, negatives: Tensor | None = None, **more: Any) -> Tensor:
        """Return the mean loss, a scalar; arguments as of the loss.

        Raises:
            InputError: a width is larger than that of the vectors.
        """
        self.check_width(anchors.size(-1))
        losses = [
            self.loss(
                anchors[..., :width],
                positives[..., :width],
                negatives=None if negatives is None else negatives[..., :width],
                **more,
            )
            for width in self.widths
        ]
        total: Tensor = sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))
        return total / sum(self.weights)
