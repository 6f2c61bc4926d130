"""Pooling heads: turn the token states of a text into one vector.

Legend: B texts, L tokens, D hidden size. Every head has the same signature, ``forward(hidden, mask) -> pooled``:

    hidden  (B, L, D)  last hidden states of the backbone, any float dtype
    mask    (B, L)     bool, True for the tokens to pool; every row has at least one; either padding side
    pooled  (B, D)     float32

To add a head, subclass :class:`PoolingHead` and write ``conf/pooling/<name>.yaml`` with its ``_target_``.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from embedllm.errors import InputError

POOL_OVER = ("all", "text", "suffix")


class PoolingHead(nn.Module):
    """Base class. Class attributes tell the rest of the system what a head needs.

    Args:
        hidden_size: D, the width of the backbone.
        pool_over: tokens that the head sees: ``all`` of the prompt, the ``text`` alone, or the template's ``suffix``.
        normalize: whether the vector of a text is scaled to unit length.
    """

    appends_eos: ClassVar[bool] = False
    """Whether the tokenizer must end every text with EOS."""

    sentence_transformers_mode: ClassVar[str | tuple[str, ...] | None] = None
    """The equal pooling mode of sentence-transformers, or several that it concatenates; None: cannot be exported."""

    weighs_by_state: ClassVar[bool] = True
    """Whether how much a token counts depends on the states; False where its position alone decides."""

    def __init__(self, hidden_size: int, pool_over: str = "all", normalize: bool = True) -> None:
        super().__init__()
        if pool_over not in POOL_OVER:
            raise InputError(f"pooling.pool_over: {pool_over!r} is not one of {', '.join(POOL_OVER)}")
        if pool_over == "text" and self.appends_eos:
            raise InputError(
                "pooling.pool_over: 'text' leaves out the EOS token that this head pools; use all or suffix"
            )
        self.hidden_size = hidden_size
        self.pool_over = pool_over
        self.normalize = normalize

    @property
    def output_size(self) -> int:
        """Width of the pooled vector."""
        return self.hidden_size

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled vectors, (B, output_size) float32."""
        raise TypeError(f"{type(self).__name__} does not define forward(hidden, mask)")

    def token_weights(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return how much the state of each token counts in the vector, (B, L); rows sum to one.

        It is the token's share of the absolute derivative of the sum of the vector by the states. For a head that
        picks or averages states these are its weights; for the maximum, the share of the dimensions that a token wins.
        """
        with torch.enable_grad():
            states = _full(hidden).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(states, mask).sum(), states)
        sizes = gradient.abs().sum(dim=-1)
        return sizes / sizes.sum(dim=1, keepdim=True)


class MeanPooling(PoolingHead):
    """Average of the token states."""

    sentence_transformers_mode = "mean"
    weighs_by_state = False

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the mean over the masked tokens, (B, D) float32."""
        return _weighted_mean(hidden, mask.float())


class WeightedMeanPooling(PoolingHead):
    """Average of the token states weighted by position 1, 2, 3, ... (SGPT: Muennighoff, 2022).

    In a causal model later tokens have seen more of the text. Positions count pooled tokens only.
    """

    sentence_transformers_mode = "weightedmean"
    weighs_by_state = False

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the position-weighted mean, (B, D) float32."""
        return _weighted_mean(hidden, mask.long().cumsum(dim=1).float() * mask)


class LastTokenPooling(PoolingHead):
    """State of the last token, which in a causal model has seen the whole text and prompt."""

    sentence_transformers_mode = "lasttoken"
    weighs_by_state = False

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the states at the last masked position, (B, D) float32."""
        positions = torch.arange(mask.size(1), device=mask.device)
        last = (positions * mask).argmax(dim=1)  # (B,), right for either padding side
        rows = torch.arange(hidden.size(0), device=hidden.device)
        return _full(hidden[rows, last])


class EosPooling(LastTokenPooling):
    """State of an EOS token that the tokenizer appends to the prompt."""

    appends_eos = True


class MaxPooling(PoolingHead):
    """Largest value of each dimension over the tokens."""

    sentence_transformers_mode = "max"

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the maximum over the masked tokens, (B, D) float32."""
        outside = ~mask.bool().unsqueeze(-1)  # (B, L, 1)
        return _full(hidden).masked_fill(outside, float("-inf")).amax(dim=1)


class ConcatPooling(PoolingHead):
    """The mean and the last token state side by side, (B, 2D)."""

    # In this order: sentence-transformers before version 6 knows no other.
    sentence_transformers_mode = ("mean", "lasttoken")
    weighs_by_state = False

    def __init__(self, hidden_size: int, pool_over: str = "all", normalize: bool = True) -> None:
        super().__init__(hidden_size, pool_over, normalize)
        self.mean = MeanPooling(hidden_size)
        self.last = LastTokenPooling(hidden_size)

    @property
    def output_size(self) -> int:
        """Width of the pooled vector, 2D."""
        return 2 * self.hidden_size

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return mean and last state concatenated, (B, 2D) float32."""
        return torch.cat([self.mean(hidden, mask), self.last(hidden, mask)], dim=-1)


class AttentionPooling(PoolingHead):
    r"""Average of the token states with learned weights :math:`\mathrm{softmax}_l(q \cdot h_l / \sqrt{D})`.

    One learned query q, as in hierarchical attention networks (Yang et al., 2016) without their projection. It starts
    at zero, so an untrained head is the mean.
    """

    def __init__(self, hidden_size: int, pool_over: str = "all", normalize: bool = True) -> None:
        super().__init__(hidden_size, pool_over, normalize)
        self.query = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the attention-weighted mean, (B, D) float32."""
        return _weighted_mean(hidden, self.token_weights(hidden, mask))

    def token_weights(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the weights of the mean, (B, L)."""
        scores = _full(hidden) @ _full(self.query) / self.hidden_size**0.5  # (B, L)
        return torch.softmax(scores.masked_fill(~mask.bool(), float("-inf")), dim=1)


def _full(states: Tensor) -> Tensor:
    """Return ``states`` as float32; float64 stays."""
    return states if states.dtype == torch.float64 else states.float()


def _weighted_mean(hidden: Tensor, weights: Tensor) -> Tensor:
    """Mean of hidden (B, L, D) under weights (B, L), accumulated in float32: (B, D)."""
    weights = weights.unsqueeze(-1)  # (B, L, 1)
    # where(), not a product: the states of padding may be inf or NaN, and 0 * NaN is NaN
    weighted = torch.where(weights > 0, _full(hidden) * weights, 0.0)
    return weighted.sum(dim=1) / weights.sum(dim=1)
