"""What a local file can be used for; a new kind is one more entry of :data:`KINDS`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from embedllm.eval.checks import Columns, check_classification, check_clustering, check_pairs, check_sts
from embedllm.eval.local_tasks import LocalData, classification_task, clustering_task, pairs_task, sts_task


@dataclass(frozen=True)
class TaskKind:
    """One use of a local file."""

    name: str
    """The prefix of a task spec: ``classification:FILE``."""
    columns: tuple[str, ...]
    """The columns that it reads. Without a prefix, the first kind with a file's columns is taken."""
    suffix: str
    """What the name of the task has after the name of the file; empty for a kind that columns alone choose."""
    check: Callable[[Columns, str], Columns]
    """Returns the columns with their proper types, or raises; the second argument begins the messages."""
    build: Callable[[LocalData, int | None], Any]
    """Returns the mteb task, with at most so many documents."""


KINDS = {
    kind.name: kind
    for kind in (
        TaskKind("clustering", ("text", "label"), "", check_clustering, clustering_task),
        TaskKind("classification", ("text", "label"), "Classification", check_classification, classification_task),
        TaskKind("sts", ("sentence1", "sentence2", "score"), "", check_sts, sts_task),
        TaskKind("pairs", ("sentence1", "sentence2", "label"), "", check_pairs, pairs_task),
    )
}
"""The known kinds by name."""

COLUMNS = frozenset(column for kind in KINDS.values() for column in kind.columns)
"""All columns that any kind reads."""


def kind_for(names: Collection[str]) -> TaskKind | None:
    """Return the kind that a file with these columns has without a prefix: the first whose columns are all there."""
    return next((kind for kind in KINDS.values() if set(kind.columns) <= set(names)), None)
