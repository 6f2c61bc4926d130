"""Draws rows with a fixed seed, so that every model is scored on the same documents whatever the run's own seed."""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence

SEED = 42
"""Not a setting: scores are comparable only on the same documents."""


def sample_rows(rows: int, limit: int | None) -> list[int]:
    """Return ``limit`` of the numbers 0 to ``rows`` - 1, drawn without replacement, in rising order (None: all)."""
    if limit is None or limit >= rows:
        return list(range(rows))
    return sorted(random.Random(SEED).sample(range(rows), limit))


def split_rows(labels: Sequence[Hashable], limit: int | None) -> tuple[list[int], list[int]]:
    """Return the rows to train on and the rows to test on: halves, drawn within each label.

    Of a label with an odd number of rows the training half has one more. With a ``limit``, each half keeps so many
    rows, the labels in about the shares that they have in the file.
    """
    rng = random.Random(SEED)
    by_label: dict[Hashable, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        by_label[label].append(row)
    halves: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
    for rows in by_label.values():
        rng.shuffle(rows)
        middle = (len(rows) + 1) // 2
        halves[0].extend(_spread(rows[:middle], rng))
        halves[1].extend(_spread(rows[middle:], rng))
    train, test = (sorted(row for _, row in sorted(half)[:limit]) for half in halves)
    return train, test


def _spread(rows: Sequence[int], rng: random.Random) -> list[tuple[float, int]]:
    """Pair each row with a place in [0, 1), one in each equal step, so that any beginning holds its share of them."""
    return [((step + rng.random()) / len(rows), row) for step, row in enumerate(rows)]
