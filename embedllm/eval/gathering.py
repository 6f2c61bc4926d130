"""Gathers the evidence of a task while mteb evaluates it."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.eval.encoder import TextEncoder
from embedllm.eval.evidence import Evidence, gather
from embedllm.eval.hub_tasks import splits_of
from embedllm.eval.paired import AnyEvidence
from embedllm.eval.predictions import keeps_predictions, read_predictions

_UNLABELLED = -1  # mteb leaves such documents out; the text "-1" is a label like any other


class Gatherer:
    """Stands between mteb and the encoder.

    Args:
        encoder: what is scored.
        task: an mteb task with its data.
        folder: where mteb writes predictions.
    """

    def __init__(self, encoder: TextEncoder, task: Any, folder: Path) -> None:
        self.encoder, self.task, self.folder = encoder, task, folder
        self.texts: list[str] = []
        self.vectors = np.empty((0, 0), dtype=np.float32)

    @property
    def prediction_folder(self) -> Path | None:
        """Where mteb is to write predictions; None: it need not."""
        return self.folder if keeps_predictions(self.task) else None

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the encoder's vectors, (N, D) float32, and remember them."""
        self.texts, self.vectors = list(texts), self.encoder.encode(texts)
        return self.vectors

    def evidence(self, score: float) -> AnyEvidence | None:
        """Return the evidence of the task, whose score this is; None for a task that there can be none of."""
        if self.prediction_folder is not None:
            return read_predictions(self.task, self.folder)
        return _clustering_evidence(self.task, self.texts, self.vectors, score)


@contextmanager
def gathering(encoder: TextEncoder, task: Any) -> Iterator[Gatherer]:
    """Yield what is to be evaluated in place of ``encoder``."""
    with TemporaryDirectory() as folder:
        yield Gatherer(encoder, task, Path(folder))


def _clustering_evidence(
    task: Any, texts: Sequence[str], vectors: npt.NDArray[np.float32], score: float
) -> Evidence | None:
    """Return the evidence of a clustering of one part whose documents have one label each."""
    from mteb.abstasks import AbsTaskClustering

    if not isinstance(task, AbsTaskClustering) or len(task.hf_subsets) != 1 or len(task.eval_splits) != 1:
        return None
    (subset,), (split,) = task.hf_subsets, task.eval_splits
    rows = splits_of(task, subset)[split]
    by_text: dict[str, deque[Any]] = {}  # mteb may have drawn some, in an order of its own
    for text, label in zip(rows[task.input_column_name], rows[task.label_column_name], strict=True):
        by_text.setdefault(text, deque()).append(label)
    labels = [by_text[text].popleft() for text in texts]  # equal texts have equal vectors: which is which is no matter
    if any(isinstance(label, list) and len(label) != 1 for label in labels):
        return None  # a hierarchy has a V-measure for each of its levels
    labels = [label[0] if isinstance(label, list) else label for label in labels]
    kept = [row for row, label in enumerate(labels) if label != _UNLABELLED]
    if not kept:
        return None
    return gather([texts[row] for row in kept], [str(labels[row]) for row in kept], vectors[kept], score)
