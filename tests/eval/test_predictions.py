"""Evidence out of mteb's own predictions: its score is mteb's score."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedllm.eval.bootstrap import Draws
from embedllm.eval.encoder import make_encoder
from embedllm.eval.pair_evidence import PairClassificationEvidence
from embedllm.eval.predictions import keeps_predictions, read_predictions
from embedllm.eval.rng import isolated_rng
from embedllm.eval.specs import parse_specs
from embedllm.eval.stored import digests
from embedllm.eval.tasks import prepare_tasks


def evaluated(task: Any, encoder: Any, folder: Path) -> float:
    import mteb

    with isolated_rng():
        result = mteb.evaluate(
            make_encoder(encoder, "a/b", "1"), task, cache=None, co2_tracker=False, prediction_folder=folder
        )
    return float(result.task_results[0].get_score())


def of_all(documents: int, runs: int) -> Draws:
    """Every document and run once."""
    return Draws(np.ones((1, documents)), np.arange(runs)[None])


def local(spec: str, max_documents: int | None = None) -> Any:
    return prepare_tasks(parse_specs([spec]), max_documents)[0].load()


@pytest.mark.parametrize("limit", [None, 20])
def test_similarity(pairs: Path, hash_encoder: Callable[..., Any], tmp_path: Path, limit: int | None) -> None:
    task = local(str(pairs), limit)
    score = evaluated(task, hash_encoder(), tmp_path / "predictions")
    evidence = read_predictions(task, tmp_path / "predictions")
    assert evidence is not None
    assert evidence.scores(of_all(limit or 40, 1)) == pytest.approx([100 * score], abs=1e-9)
    rows = task.dataset["test"]
    assert evidence.documents[0] == digests([(rows["sentence1"][0], rows["sentence2"][0])])[0]


def test_classification(topics: Path, hash_encoder: Callable[..., Any], tmp_path: Path) -> None:
    task = local(f"classification:{topics}")
    score = evaluated(task, hash_encoder(), tmp_path)
    evidence = read_predictions(task, tmp_path)
    assert evidence is not None
    assert (evidence.runs, len(evidence.documents)) == (10, len(task.dataset["test"]))
    assert evidence.scores(of_all(len(evidence.documents), 10)) == pytest.approx([100 * score], abs=1e-9)
    assert evidence.documents[0] == digests([(task.dataset["test"]["text"][0],)])[0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("metric", ["max_ap", "cosine_ap"])
def test_pair_classification(hash_encoder: Callable[..., Any], tmp_path: Path, metric: str, packed: bool) -> None:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskPairClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    rng = random.Random(0)
    words = ("oak", "elm", "cod", "carp", "vega", "sirius")
    columns = {name: [f"{' '.join(rng.choices(words, k=4))} {i}" for i in range(30)] for name in ("sentence1", "x")}
    labels = [rng.randrange(2) for _ in range(30)]
    second = [a if same else b for a, b, same in zip(*columns.values(), labels, strict=True)]
    noisy = [f"{rng.choice(words)} {text} {rng.choice(words)}" for text in second]
    labels = [label ^ (rng.random() < 0.3) for label in labels]  # some pairs are not what they look like
    rows: dict[str, Any] = {"sentence1": columns["sentence1"], "sentence2": noisy, "labels": labels}
    rows = {name: [values] for name, values in rows.items()} if packed else rows

    class Made(AbsTaskPairClassification):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="Made",
            description="",
            type="PairClassification",
            main_score=metric,
            dataset={"path": "local", "revision": "1"},
            eval_langs=["eng-Latn"],
        )

    task = Made()
    task.dataset, task.data_loaded = DatasetDict(test=Dataset.from_dict(rows)), True
    score = evaluated(task, hash_encoder(), tmp_path)
    evidence = read_predictions(task, tmp_path)
    assert isinstance(evidence, PairClassificationEvidence)
    assert evidence.scores(of_all(30, 1)) == pytest.approx([100 * score], abs=1e-9)
    assert 0.5 < score < 1
    assert evidence.documents[0] == digests([(columns["sentence1"][0], noisy[0])])[0]


def test_other_tasks_keep_none(topics: Path, tmp_path: Path) -> None:
    task = local(str(topics))
    assert not keeps_predictions(task)
    assert read_predictions(task, tmp_path) is None


def test_a_task_of_several_parts_or_another_score_keeps_none(pairs: Path) -> None:
    for change in ({"hf_subsets": ["en", "de"]}, {"_eval_splits": ["a", "b"]}):
        task = local(str(pairs))
        assert keeps_predictions(task)
        for name, value in change.items():
            setattr(task, name, value)
        assert not keeps_predictions(task)
    task = local(str(pairs))
    task.metadata = task.metadata.model_copy(update={"main_score": "cosine_pearson"})
    assert not keeps_predictions(task)
