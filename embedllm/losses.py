"""Contrastive losses: embeddings in, one scalar out.

Legend: B anchors of this call, N positives in the pool (N >= B), M explicit negatives, D width of the vectors.
A loss knows nothing of texts, tokenizers or processes, so each one can be checked against a closed form.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedllm.errors import InputError


class InfoNCE(nn.Module):
    r"""In-batch contrastive loss over cosine similarities (van den Oord et al., 2018).

    .. math:: -\frac{1}{B} \sum_i \log \frac{\exp(s_{ii} / \tau)}{\sum_j \exp(s_{ij} / \tau)}

    Half-precision inputs are computed in float32, also under autocast; float64 stays float64.

    Args:
        temperature: :math:`\tau > 0`; sentence-transformers calls its inverse ``scale``.
        symmetric: also rank the anchors for each positive, and average the two directions. Needs the anchors of the
            whole pool.
    """

    def __init__(self, temperature: float = 0.1, symmetric: bool = True) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise InputError(f"loss.temperature: {temperature!r} is not a positive number")
        self.temperature = temperature
        self.symmetric = symmetric

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
                negatives. A text is no negative of itself, nor is anything that another row calls its positive.

        Raises:
            ValueError: if the shapes do not fit together.
        """
        self._check_shapes(anchors, positives, offset, labels)
        with torch.autocast(anchors.device.type, enabled=False):
            anchors, positives = _unit(anchors), _unit(positives)
            own = torch.arange(len(anchors), device=anchors.device) + offset  # (B,)
            cosines = anchors @ positives.T  # (B, N)
            ignored = torch.zeros_like(cosines, dtype=torch.bool)
            if labels is not None:
                ignored |= _same_label(labels, own)
            extra = _extra(anchors, negatives)
            if texts is not None:
                ignored |= _same_text(texts, own, len(positives))
                extra = _without_own(extra, texts, own, len(positives))
            loss = self._rank(cosines, own, ignored, extra)
            if self.symmetric:
                loss = (loss + self._rank(cosines.T, own, ignored.T)) / 2
        return loss

    def _rank(self, cosines: Tensor, own: Tensor, ignored: Tensor, extra: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy of picking column ``own`` of each row, with ``ignored`` columns left out."""
        cosines = cosines.masked_fill(ignored, -math.inf)
        if extra is not None:
            cosines = torch.cat([cosines, extra], dim=1)  # (B, N + M)
        return F.cross_entropy(cosines / self.temperature, own)

    def _check_shapes(self, anchors: Tensor, positives: Tensor, offset: int, labels: Tensor | None) -> None:
        rows, pool = len(anchors), len(positives)
        if rows == 0 or offset < 0 or offset + rows > pool:
            raise ValueError(f"{rows} anchors at offset {offset} do not fit {pool} positives")
        if self.symmetric and rows != pool:
            raise ValueError(f"symmetric InfoNCE needs an anchor for each positive, got {rows} and {pool}")
        if labels is not None and labels.shape != (pool,):
            raise ValueError(f"labels must have one entry for each of {pool} positives, got {tuple(labels.shape)}")


def _unit(vectors: Tensor) -> Tensor:
    """Scale rows to unit length, in float32 or better: half types would lose the digits that the temperature needs."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    return F.normalize(vectors, dim=-1)


def _same_label(labels: Tensor, own: Tensor) -> Tensor:
    """Mark the other pairs of each anchor's class, (B, N) bool; never the anchor's own pair."""
    same = labels[own].unsqueeze(1) == labels.unsqueeze(0)
    return same.scatter(1, own.unsqueeze(1), False)


def _same_text(texts: Tensor, own: Tensor, pool: int) -> Tensor:
    """Mark the pairs that share a text with each anchor's pair, (B, N) bool; never the anchor's own pair."""
    anchors, positives = texts[:pool], texts[pool : 2 * pool]
    anchor, positive = anchors[own].unsqueeze(1), positives[own].unsqueeze(1)  # (B, 1)
    same = (positives == positive) | (positives == anchor) | (anchors == anchor)
    return same.scatter(1, own.unsqueeze(1), False)


def _without_own(extra: Tensor | None, texts: Tensor, own: Tensor, pool: int) -> Tensor | None:
    """Leave out the hard negatives that are the text or the positive of an anchor, (B, M)."""
    if extra is None:
        return None
    negatives = texts[2 * pool :]
    same = (negatives == texts[own].unsqueeze(1)) | (negatives == texts[pool + own].unsqueeze(1))
    return extra.masked_fill(same, -math.inf)


def _extra(anchors: Tensor, negatives: Tensor | None) -> Tensor | None:
    """Return the cosines of the anchors to every explicit negative, (B, M)."""
    return None if negatives is None else anchors @ _unit(negatives.flatten(0, -2)).T
