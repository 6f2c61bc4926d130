"""Takes evidence from the predictions that mteb writes: no second definition of a task, and no second training.

To be used around an evaluation: ``mteb.evaluate(..., prediction_folder=folder if keeps_predictions(task) else None)``,
then :func:`read_predictions`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedllm.eval.classification_evidence import ClassificationEvidence
from embedllm.eval.hub_tasks import splits_of
from embedllm.eval.pair_evidence import PairClassificationEvidence, SimilarityEvidence
from embedllm.eval.stored import digests

MEASURES = {
    "cosine_ap": (("cosine_scores", 1),),
    "max_ap": (("cosine_scores", 1), ("dot_scores", 1), ("euclidean_distances", -1), ("manhattan_distances", -1)),
}
"""What the best average precision is taken of, by the main score of a pair classification; -1 for distances."""

PredictionEvidence = SimilarityEvidence | PairClassificationEvidence | ClassificationEvidence


def keeps_predictions(task: Any) -> bool:
    """Return whether there can be evidence of an mteb task: it has one part, and its main score is one we know."""
    return _reader(task) is not None and len(task.hf_subsets) == 1 and len(task.eval_splits) == 1


def read_predictions(task: Any, folder: Path) -> PredictionEvidence | None:
    """Return the evidence of an mteb task that was evaluated with ``prediction_folder=folder``; None if it has none.

    Args:
        task: evaluated, its data still in it.
        folder: of the predictions.
    """
    read = _reader(task)
    if read is None or not keeps_predictions(task):
        return None
    (subset,), (split,) = task.hf_subsets, task.eval_splits
    predicted = json.loads((folder / task.prediction_file_name).read_text(encoding="utf-8"))[subset][split]
    return read(task, splits_of(task, subset)[split], predicted)


def _reader(task: Any) -> Callable[[Any, Any, Any], PredictionEvidence] | None:
    from mteb.abstasks import AbsTaskClassification, AbsTaskPairClassification, AbsTaskSTS

    readers = (
        (AbsTaskSTS, ("cosine_spearman",), _similarity),
        (AbsTaskPairClassification, tuple(MEASURES), _pair_classification),
        (AbsTaskClassification, ("accuracy",), _classification),
    )
    if getattr(task, "is_cross_validation", False):
        return None  # its experiments are tested on different documents
    score = task.metadata.main_score
    return next((read for base, scores, read in readers if isinstance(task, base) and score in scores), None)


def _similarity(task: Any, rows: Any, predicted: Any) -> SimilarityEvidence:
    documents = digests(zip(*(rows[name] for name in task.column_names), strict=True))
    return SimilarityEvidence(documents, np.array(rows["score"], dtype=float), np.array(predicted["cosine_scores"]))


def _pair_classification(task: Any, rows: Any, predicted: Any) -> PairClassificationEvidence:
    columns = {name: rows[name] for name in rows.column_names}
    if len(rows) == 1:  # old sets hold one row of lists
        columns = {name: values[0] for name, values in columns.items()}
    pairs = zip(columns[task.input1_column_name], columns[task.input2_column_name], strict=True)
    measures = [sign * np.array(predicted[name], dtype=float) for name, sign in MEASURES[task.metadata.main_score]]
    same = np.array(columns[task.label_column_name]) == 1
    return PairClassificationEvidence(digests(pairs), same, np.stack(measures))


def _classification(task: Any, rows: Any, predicted: Any) -> ClassificationEvidence:
    documents = digests((text,) for text in rows[task.input_column_name])
    return ClassificationEvidence(documents, np.array(predicted) == np.array(rows[task.label_column_name]))
