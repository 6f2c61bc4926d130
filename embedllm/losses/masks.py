"""Which vectors of a pool are no negatives of an anchor, although they are not its positive.

Legend: B anchors of a call, N pairs in the pool, M hard negatives. Every mask is True where a column is left out, and
never at the anchor's own pair, so a row in which all is left out has loss 0.
"""

import torch
from torch import Tensor


def same_label(labels: Tensor, own: Tensor) -> Tensor:
    """Mark the other pairs of each anchor's class, (B, N).

    Args:
        labels: (N,) classes.
        own: (B,) the row of each anchor's pair in the pool, here and below.
    """
    return _others(labels[own].unsqueeze(1) == labels, own)


def same_text(texts: Tensor, own: Tensor, pool: int) -> Tensor:
    """Mark the pairs that share a text with each anchor's pair, (B, N).

    Args:
        texts: (2N + M,) integers, equal for equal texts: anchors, positives, hard negatives.
        own: see :func:`same_label`.
        pool: N.
    """
    anchors, positives = texts[:pool], texts[pool : 2 * pool]
    anchor, positive = anchors[own].unsqueeze(1), positives[own].unsqueeze(1)  # (B, 1)
    shared = (positives == positive) | (positives == anchor) | (anchors == positive) | (anchors == anchor)
    return _others(shared, own)


def own_texts(texts: Tensor, own: Tensor, pool: int) -> Tensor:
    """Mark the hard negatives that are the text or the positive of each anchor, (B, M)."""
    negatives = texts[2 * pool :]
    return (negatives == texts[own].unsqueeze(1)) | (negatives == texts[pool + own].unsqueeze(1))


def more_similar(cosines: Tensor, own_cosines: Tensor, margin: float) -> Tensor:
    """Mark what is more similar than the anchor's own positive by more than ``margin``, of the shape of ``cosines``.

    Such a negative is likely a false one (NV-Retriever: Moreira et al., 2024; Qwen3-Embedding: Zhang et al., 2025).

    Args:
        cosines: (B, ...).
        own_cosines: (B,) of each anchor and its positive.
        margin: 0 or more.
    """
    return cosines.detach() > own_cosines.detach().unsqueeze(1) + margin


def _others(mask: Tensor, own: Tensor) -> Tensor:
    return mask.scatter(1, own.unsqueeze(1), torch.zeros_like(mask))
