"""All texts of a task, whatever its kind."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

TEXT_COLUMNS = (
    "text",
    "title",
    "body",
    "sentence",
    "sentences",
    "sentence1",
    "sentence2",
    "query",
    "positive",
    "negative",
)
"""Columns of mteb's data sets that hold what is embedded; labels of clusterings are strings too, and are not here."""


def task_texts(task: Any) -> list[str]:
    """Return every distinct text that an mteb task may embed, in order of appearance; the task holds its data.

    Training texts of a classification are among them, and both sides of pairs.

    Raises:
        ValueError: there is none in a column of a name that we know.
    """
    parts = {*task.hf_subsets, *task.eval_splits, getattr(task, "train_split", None)}
    texts = list(dict.fromkeys(_texts(task.dataset, parts)))
    if not texts:
        raise ValueError(f"{task.metadata.name} has no texts in the columns {', '.join(TEXT_COLUMNS)}")
    return texts


def _texts(node: Any, parts: Set[str | None]) -> Iterator[str]:
    """Yield the texts below a mapping of subsets or splits, a data set, or nested lists.

    Args:
        node: any of these.
        parts: names of the subsets and splits that are wanted.
    """
    from datasets import Dataset

    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item, parts)
    elif isinstance(node, Dataset):
        for name in (name for name in node.column_names if name in TEXT_COLUMNS):
            yield from _texts(list(node[name]), parts)
    elif isinstance(node, Mapping):
        for part in [node[name] for name in node if name in parts] or node.values():
            if isinstance(part, Mapping | Dataset):
                yield from _texts(part, parts)
