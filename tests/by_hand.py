"""The contrastive loss of a pool as a textbook writes it: one padded batch, one graph, loops over rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from embedllm.embedder import Embedder
from embedllm.engine import Pool


@dataclass(frozen=True)
class Formula:
    """What a loss is made of."""

    temperature: float | Tensor = 0.1
    symmetric: bool = False
    all_pairs: bool = False
    reverse: bool = False
    margin: float = 0.0
    false_negative_margin: float | None = None
    widths: Sequence[int | None] = (None,)


def plain_vectors(embedder: Embedder, rows: Sequence[Sequence[int]], head: str, pool_over: str) -> list[Tensor]:
    """Return the unit vector of each text."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    hidden = embedder.backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    vectors = []
    for states, row in zip(hidden, rows, strict=True):
        begin, end = embedder.prompt.prefix_tokens, len(row) - embedder.prompt.suffix_tokens
        first, last = {"all": (0, len(row)), "text": (begin, end), "suffix": (end, len(row))}[pool_over]
        pooled = POOL[head](states[first:last], embedder.head)
        vectors.append(pooled / (pooled**2).sum().sqrt())
    return vectors


def _weighted(states: Tensor, head: nn.Module) -> Tensor:
    return sum((i + 1) * state for i, state in enumerate(states)) / sum(range(1, len(states) + 1))


def _attention(states: Tensor, head: Any) -> Tensor:
    weights = [((state @ head.query) / len(state) ** 0.5).exp() for state in states]
    return sum(weight * state for weight, state in zip(weights, states, strict=True)) / sum(weights)


POOL: dict[str, Any] = {
    "MeanPooling": lambda states, head: sum(states) / len(states),
    "WeightedMeanPooling": _weighted,
    "LastTokenPooling": lambda states, head: states[-1],
    "EosPooling": lambda states, head: states[-1],
    "MaxPooling": lambda states, head: states.max(dim=0).values,
    "ConcatPooling": lambda states, head: torch.cat([sum(states) / len(states), states[-1]]),
    "AttentionPooling": _attention,
}


def plain_loss(vectors: Sequence[Tensor], pool: Pool, formula: Formula) -> Tensor:
    """Return the loss of unit vectors: anchors, positives, hard negatives."""
    losses = []
    for width in formula.widths:
        units = [vector[:width] / (vector[:width] ** 2).sum().sqrt() for vector in vectors]
        losses.append(_one_width(units, pool, formula))
    return sum(losses) / len(losses)


def _one_width(units: Sequence[Tensor], pool: Pool, formula: Formula) -> Tensor:
    count = len(pool.anchors)
    pairs = range(count)
    a, p, n = units[:count], units[count : 2 * count], units[2 * count :]
    labels = None if pool.labels is None else pool.labels.tolist()
    texts = None if pool.texts is None else pool.texts.tolist()

    def compete(i: int, j: int) -> bool:
        """Whether pair j is a negative of pair i."""
        if i == j or (labels and labels[i] == labels[j]):
            return False
        return not texts or not {texts[i], texts[count + i]} & {texts[j], texts[count + j]}

    rows = []
    for i in pairs:
        others = [j for j in pairs if compete(i, j)]
        cosines = [a[i] @ p[j] for j in others]
        if formula.all_pairs:
            cosines += [a[i] @ a[j] for j in others] + [p[i] @ p[j] for j in others]
            cosines += [p[i] @ a[j] for j in others if formula.reverse]
        for k, hard in enumerate(n):
            if not texts or texts[2 * count + k] not in (texts[i], texts[count + i]):
                cosines.append(a[i] @ hard)
        rows.append(_cross_entropy(a[i] @ p[i], cosines, formula))
    forward = sum(rows) / count
    if not formula.symmetric:
        return forward
    columns = [_cross_entropy(a[i] @ p[i], [a[j] @ p[i] for j in pairs if compete(j, i)], formula) for i in pairs]
    return (forward + sum(columns) / count) / 2


def _cross_entropy(own: Tensor, others: Sequence[Tensor], formula: Formula) -> Tensor:
    """Return -log of the share of the positive."""
    bound = formula.false_negative_margin
    kept = [cosine for cosine in others if bound is None or float(cosine.detach()) <= float(own.detach()) + bound]
    positive = ((own - formula.margin) / formula.temperature).exp()
    return -(positive / (positive + sum((cosine / formula.temperature).exp() for cosine in kept))).log()
