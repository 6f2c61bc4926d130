"""All texts of a task."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from embedllm.eval.specs import parse_specs
from embedllm.eval.task_texts import task_texts
from embedllm.eval.tasks import prepare_tasks


def task(dataset: Any, **attributes: Any) -> Any:
    defaults = {"hf_subsets": ["default"], "eval_splits": ["test"], "metadata": SimpleNamespace(name="Made")}
    return SimpleNamespace(dataset=dataset, **{**defaults, **attributes})


def table(**columns: list[Any]) -> Dataset:
    return Dataset.from_dict(columns)


def test_labels_are_no_texts() -> None:
    made = task(DatasetDict(test=table(sentences=["a", "b", "a"], labels=["x", "y", "z"])))
    assert task_texts(made) == ["a", "b"]


def test_old_sets_hold_lists_of_texts() -> None:
    assert task_texts(task({"test": table(sentences=[["a", "b"], ["c"]], labels=[["1", "2"], ["3"]])})) == [
        "a",
        "b",
        "c",
    ]


def test_other_splits_and_subsets_are_left_out() -> None:
    splits = {name: table(sentence1=[f"{name} 1"], sentence2=[f"{name} 2"], score=[1.0]) for name in ("train", "test")}
    assert task_texts(task(splits)) == ["test 1", "test 2"]
    subsets = {"en": splits, "de": {"test": table(sentence1=["nein"], sentence2=["doch"])}}
    assert task_texts(task(subsets, hf_subsets=["en"])) == ["test 1", "test 2"]


def test_the_training_split_of_a_classification_is_among_them(topics: Path) -> None:
    (prepared,) = prepare_tasks(parse_specs([f"classification:{topics}"]))
    assert len(task_texts(prepared.load())) == 91


def test_a_corpus_and_its_queries_are_found() -> None:
    part = {"corpus": table(id=["d1"], title=["t"], text=["doc"]), "queries": table(id=["q"], text=["question"])}
    made = task({"default": {"test": {**part, "relevant_docs": {"q": {"d1": 1}}, "top_ranked": {"q": ["d1"]}}}})
    assert task_texts(made) == ["t", "doc", "question"]


def test_a_task_without_known_columns_is_an_error() -> None:
    with pytest.raises(ValueError, match="Made has no texts in the columns text, title"):
        task_texts(task({"test": table(utterance=["a"])}))
