"""InfoNCE and its relatives.

Legend: B anchors of this call, N pairs in the pool (N >= B), M hard negatives, D width of the vectors.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedllm.errors import InputError
from embedllm.losses.masks import more_similar, own_texts, same_label, same_text
from embedllm.losses.temperature import Temperature

Block = tuple[Tensor, Tensor]
"""Cosines of more negatives and the mask of those that are left out, (B, any) each."""


class InfoNCE(nn.Module):
    r"""In-batch contrastive loss over cosine similarities (van den Oord et al., 2018).

    .. math:: -\frac{1}{B} \sum_i \log \frac{\exp((s_{ii} - m) / \tau)}{\exp((s_{ii} - m) / \tau) +
        \sum_{j \ne i} \exp(s_{ij} / \tau)}

    Half-precision inputs are computed in float32, also under autocast; float64 stays float64.

    Args:
        temperature: :math:`\tau > 0`; sentence-transformers calls its inverse ``scale``.
        symmetric: also rank the anchors for each positive, and average the two directions. Needs the anchors of the
            whole pool.
        learn_temperature: train it with the other weights.
        margin: m, by which a positive must beat the negatives (additive margin softmax: Yang et al., 2019).
        false_negative_margin: leave out negatives that are more similar to the anchor than its positive by more than
            this; None: leave none out.

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        symmetric: bool = True,
        learn_temperature: bool | None = None,
        margin: float | None = None,
        false_negative_margin: float | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("margin", margin), ("false_negative_margin", false_negative_margin)):
            if value is not None and not 0 <= value < 2:
                raise InputError(f"loss.{name}: {value!r} is no difference of cosines; it must be from 0 to below 2")
        self.temperature = Temperature(temperature, bool(learn_temperature))
        self.symmetric, self.margin, self.false_negative_margin = symmetric, margin, false_negative_margin

    def forward(
        self,
        anchors: Tensor,
        positives: Tensor,
        offset: int = 0,
        labels: Tensor | None = None,
        *,
        negatives: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss over the anchors, a scalar.

        Args:
            anchors: (B, D) vectors of any length.
            positives: (N, D), the positives of the whole pool.
            offset: row of ``positives`` that belongs to ``anchors[0]``; the others follow in order.
            labels: (N,) integer classes of the pairs in the pool. Pairs of one class are not each other's negatives.
            negatives: (..., D) hard negatives, as (B, K, D) or flat (M, D). Every anchor is ranked against all of
                them; the positives' direction does not see them.
            texts: (2N + M,) integers, equal for equal texts: of the anchors of the pool, its positives and the hard
                negatives. Pairs that share a text are no negatives of each other.

        Raises:
            ValueError: if the shapes do not fit together.
        """
        self._check_shapes(anchors, positives, offset, labels)
        with torch.autocast(anchors.device.type, enabled=False):
            anchors, positives = _unit(anchors), _unit(positives)
            own = torch.arange(len(anchors), device=anchors.device) + offset  # (B,)
            ignored = _ignored(len(positives), own, labels, texts)  # (B, N)
            extra: list[Block] = []
            if negatives is not None:
                hard = anchors @ _unit(negatives.flatten(0, -2)).T  # (B, M)
                no_hard = torch.zeros_like(hard, dtype=torch.bool)
                if texts is not None:
                    no_hard = own_texts(texts, own, len(positives))
                extra.append((hard, no_hard))
            return self._loss(anchors, positives, own, ignored, extra)

    def negatives_per_anchor(self, pairs: int, hard: int) -> int:
        """Return how many vectors an anchor's positive is ranked against if none is left out.

        Args:
            pairs: of the pool.
            hard: hard negatives of the pool.
        """
        return pairs - 1 + hard

    def _loss(self, anchors: Tensor, positives: Tensor, own: Tensor, ignored: Tensor, extra: list[Block]) -> Tensor:
        """Return the loss of unit vectors; masks are True where a column is no negative."""
        cosines = anchors @ positives.T  # (B, N)
        loss = self._rank(cosines, own, ignored, extra)
        if self.symmetric:
            loss = (loss + self._rank(cosines.T, own, ignored.T, [])) / 2
        return loss

    def _rank(self, cosines: Tensor, own: Tensor, ignored: Tensor, extra: list[Block]) -> Tensor:
        """Return the mean cross-entropy of picking column ``own`` of each row.

        Args:
            cosines: (B, N).
            own: (B,).
            ignored: (B, N).
            extra: more negatives with their masks, (B, any) each.
        """
        own_cosines = cosines.gather(1, own.unsqueeze(1)).squeeze(1)  # (B,)
        blocks, masks = zip((cosines, ignored), *extra, strict=True)
        columns, left_out = torch.cat(blocks, dim=1), torch.cat(masks, dim=1)
        if self.false_negative_margin is not None:
            left_out = left_out | more_similar(columns, own_cosines, self.false_negative_margin)
        if self.margin:
            columns = columns - self.margin * F.one_hot(own, columns.size(1)).to(columns.dtype)
        # masked after the division: the gradient of -inf / temperature at a learned one would be NaN
        return F.cross_entropy((columns / self.temperature()).masked_fill(left_out, -math.inf), own)

    def _check_shapes(self, anchors: Tensor, positives: Tensor, offset: int, labels: Tensor | None) -> None:
        rows, pool = len(anchors), len(positives)
        if rows == 0 or offset < 0 or offset + rows > pool:
            raise ValueError(f"{rows} anchors at offset {offset} do not fit {pool} positives")
        if self.symmetric and rows != pool:
            raise ValueError(f"symmetric InfoNCE needs an anchor for each positive, got {rows} and {pool}")
        if labels is not None and labels.shape != (pool,):
            raise ValueError(f"labels must have one entry for each of {pool} positives, got {tuple(labels.shape)}")


class AllPairsInfoNCE(InfoNCE):
    r"""InfoNCE in which anchors compete with anchors, and positives with positives, in one sum.

    .. math:: Z_i = e^{s(a_i, p_i)} + \sum_{j \ne i} e^{s(a_i, p_j)} + e^{s(a_i, a_j)} + e^{s(p_i, p_j)} +
        [\text{reverse}] \, e^{s(p_i, a_j)}

    With ``reverse`` it is the improved contrastive loss of GTE (Li et al., 2023), but for the positive itself, which
    stands twice in the sum there; without, and with a false-negative
    margin of 0.1, that of Qwen3-Embedding (Zhang et al., 2025). Hard negatives join the sum as in :class:`InfoNCE`.

    Args:
        temperature: see :class:`InfoNCE`, as are the other arguments.
        reverse: also count the other anchors as negatives of the positive.
        learn_temperature: train it.
        margin: by which a positive must beat the negatives.
        false_negative_margin: above the positive's cosine; more similar negatives are left out.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reverse: bool = True,
        learn_temperature: bool | None = None,
        margin: float | None = None,
        false_negative_margin: float | None = None,
    ) -> None:
        super().__init__(temperature, True, learn_temperature, margin, false_negative_margin)
        self.reverse = reverse

    def negatives_per_anchor(self, pairs: int, hard: int) -> int:
        """Return how many cosines the sum holds besides that of the positive; see :class:`InfoNCE`."""
        return (4 if self.reverse else 3) * (pairs - 1) + hard

    def _loss(self, anchors: Tensor, positives: Tensor, own: Tensor, ignored: Tensor, extra: list[Block]) -> Tensor:
        itself = F.one_hot(own, len(positives)).bool()
        others = ignored | itself
        blocks = [(anchors @ anchors.T, others), (positives @ positives.T, others)]
        if self.reverse:
            blocks.append((positives @ anchors.T, others))
        return self._rank(anchors @ positives.T, own, ignored, [*blocks, *extra])


def _unit(vectors: Tensor) -> Tensor:
    """Scale rows to unit length, in float32 or better: half types would lose the digits that the temperature needs."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    return F.normalize(vectors, dim=-1)


def _ignored(pool: int, own: Tensor, labels: Tensor | None, texts: Tensor | None) -> Tensor:
    """Mark the pairs of the pool that are no negatives of each anchor, (B, N)."""
    ignored = torch.zeros(len(own), pool, dtype=torch.bool, device=own.device)
    if labels is not None:
        ignored |= same_label(labels, own)
    if texts is not None:
        ignored |= same_text(texts, own, pool)
    return ignored
