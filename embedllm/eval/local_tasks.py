"""Builds mteb tasks from the columns of local files. Settings are the defaults of mteb's own task classes."""

from dataclasses import dataclass
from typing import Any

from embedllm.errors import InputError
from embedllm.eval.checks import Columns
from embedllm.eval.sampling import sample_rows, split_rows


@dataclass(frozen=True)
class LocalData:
    """A checked local file."""

    name: str
    """The name of the task."""
    digest: str
    """The SHA-256 of the file in hexadecimal."""
    columns: Columns
    """What the kind's check returned."""
    where: str
    """What messages begin with."""


def clustering_task(data: LocalData, max_documents: int | None) -> Any:
    """Return a clustering task over the whole file (main score: V-measure over ten k-means runs).

    mteb's default of embedding 4 % of the documents is for large sets, and is switched off.
    """
    from mteb.abstasks import AbsTaskClustering

    rows = _pick(data.columns, sample_rows(len(data.columns["text"]), max_documents))
    _require_two(rows["label"], "label", max_documents, data.where)
    splits = {"test": {"sentences": rows["text"], "labels": rows["label"]}}
    settings = {"max_fraction_of_documents_to_embed": None}
    return _task(AbsTaskClustering, data, splits, "Clustering", "v_measure", settings)


def classification_task(data: LocalData, max_documents: int | None) -> Any:
    """Return a classification task: logistic regression on eight documents a label of one half, tested on the other.

    The halves are drawn within each label, always in the same way; ``max_documents`` bounds each of them.
    """
    from mteb.abstasks import AbsTaskClassification

    labels = data.columns["label"]
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}  # mteb's binary metrics want integers
    splits = {}
    for split, rows in zip(("train", "test"), split_rows(labels, max_documents), strict=True):
        picked = _pick(data.columns, rows)
        _require_two(picked["label"], "label", max_documents, data.where)
        splits[split] = {"text": picked["text"], "label": [numbers[label] for label in picked["label"]]}
    return _task(AbsTaskClassification, data, splits, "Classification", "accuracy", {})


def sts_task(data: LocalData, max_documents: int | None) -> Any:
    """Return a similarity task (main score: Spearman correlation of cosine and score); a document is a pair here."""
    from mteb.abstasks import AbsTaskSTS

    rows = _pick(data.columns, sample_rows(len(data.columns["score"]), max_documents))
    _require_two(rows["score"], "score", max_documents, data.where)
    settings = {"min_score": min(rows["score"]), "max_score": max(rows["score"])}
    return _task(AbsTaskSTS, data, {"test": rows}, "STS", "cosine_spearman", settings)


def pairs_task(data: LocalData, max_documents: int | None) -> Any:
    """Return a pair classification task: how well a similarity ranks the pairs of label 1 before those of label 0.

    The main score is mteb's ``max_ap``, the best average precision of its similarities; a document is a pair here.
    """
    from mteb.abstasks import AbsTaskPairClassification

    rows = _pick(data.columns, sample_rows(len(data.columns["label"]), max_documents))
    _require_two(rows["label"], "label", max_documents, data.where)
    splits = {"test": {"sentence1": rows["sentence1"], "sentence2": rows["sentence2"], "labels": rows["label"]}}
    return _task(AbsTaskPairClassification, data, splits, "PairClassification", "max_ap", {})


def _pick(columns: Columns, rows: list[int]) -> Columns:
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _require_two(values: list[Any], noun: str, max_documents: int | None, where: str) -> None:
    if len(set(values)) < 2:
        raise InputError(f"eval.max_documents: {max_documents} leaves one {noun} only of {where}; allow more")


def _task(
    base: Any, data: LocalData, splits: dict[str, Columns], kind: str, main_score: str, settings: dict[str, Any]
) -> Any:
    """Return a fresh task of a class of its own that already holds its data."""
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.task_metadata import TaskMetadata

    metadata = TaskMetadata(
        name=data.name,
        description="A local file.",
        type=kind,
        main_score=main_score,
        dataset={"path": "local", "revision": data.digest[:16]},
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
    )
    task = type(f"Local{kind}", (base,), {"metadata": metadata, **settings})()
    task.dataset = DatasetDict({name: Dataset.from_dict(columns) for name, columns in splits.items()})
    task.data_loaded = True
    return task
