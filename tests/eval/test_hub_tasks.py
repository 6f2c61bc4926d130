import logging

import pytest
from datasets import Dataset, DatasetDict

from embedllm.errors import InputError
from embedllm.eval.hub_tasks import find_hub_task, load_hub_task

ROWS = 100


def make_task(base, kind, columns, **settings):
    """A task whose data come from memory where a real one would download them."""
    from mteb.abstasks.task_metadata import TaskMetadata

    class Task(base):
        metadata = TaskMetadata(
            name="Local",
            description="",
            type=kind,
            main_score="v_measure",
            dataset={"path": "local", "revision": "1"},
            eval_langs=["eng-Latn"],
        )

        def load_data(self, **_):
            self.dataset = DatasetDict(train=Dataset.from_dict(columns), test=Dataset.from_dict(columns))
            self.data_loaded = True

    task = Task()
    for name, value in settings.items():
        setattr(task, name, value)
    return task


def clustering(**settings):
    from mteb.abstasks import AbsTaskClustering

    columns = {"sentences": [f"text {n}" for n in range(ROWS)], "labels": [n % 3 for n in range(ROWS)]}
    return make_task(AbsTaskClustering, "Clustering", columns, **settings)


def test_a_task_is_found_as_the_english_benchmark_has_it():
    task = find_hub_task("STS17")
    assert (list(task.hf_subsets), list(task.eval_splits)) == (["en-en"], ["test"])
    task = find_hub_task("AmazonCounterfactualClassification")
    assert list(task.hf_subsets) == ["en"]


def test_another_task_is_taken_in_english_where_it_can_be():
    assert list(find_hub_task("SIB200ClusteringS2S").hf_subsets) == ["eng_Latn"]
    assert len(find_hub_task("FaroeseSTS").hf_subsets) == 1


def test_an_unknown_name_comes_with_the_nearest_ones():
    with pytest.raises(InputError, match=r"eval\.tasks: 'BankingClassification' is no MTEB task.*Banking77Class"):
        find_hub_task("BankingClassification")


def test_a_task_about_images_is_refused():
    with pytest.raises(InputError, match=r"eval\.tasks: 'CIFAR10Clustering' is about image"):
        find_hub_task("CIFAR10Clustering")


def test_each_call_gives_a_fresh_task():
    assert find_hub_task("STSBenchmark") is not find_hub_task("STSBenchmark")


def test_without_a_limit_the_task_is_left_as_it_is():
    task = load_hub_task(clustering(), None, online=True)
    assert len(task.dataset["test"]) == ROWS
    assert task.max_fraction_of_documents_to_embed == 0.04


@pytest.mark.parametrize("settings", [{}, {"max_fraction_of_documents_to_embed": None, "max_document_to_embed": 4}])
def test_a_limit_above_what_mteb_draws_itself_changes_nothing(settings):
    task = load_hub_task(clustering(**settings), 4, online=True)
    assert len(task.dataset["test"]) == ROWS


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_fraction_of_documents_to_embed": None},
        {"max_fraction_of_documents_to_embed": None, "max_document_to_embed": 50},
    ],
)
def test_a_limit_draws_the_same_documents_each_time(settings):
    tasks = [load_hub_task(clustering(**settings), 3, online=True) for _ in range(2)]
    texts = [list(task.dataset["test"]["sentences"]) for task in tasks]
    assert len(set(texts[0])) == 3
    assert texts[0] == texts[1]
    assert tasks[0].max_fraction_of_documents_to_embed is None
    assert tasks[0].max_document_to_embed is None


def test_classification_keeps_its_training_texts():
    from mteb.abstasks import AbsTaskClassification

    columns = {"text": [f"text {n}" for n in range(ROWS)], "label": [n % 2 for n in range(ROWS)]}
    task = load_hub_task(make_task(AbsTaskClassification, "Classification", columns), 10, online=True)
    assert (len(task.dataset["train"]), len(task.dataset["test"])) == (ROWS, 10)


def test_pairs_packed_in_one_row_are_limited_too():
    from mteb.abstasks import AbsTaskPairClassification

    texts = [f"text {n}" for n in range(ROWS)]
    packed = {"sentence1": [texts], "sentence2": [texts], "labels": [[n % 2 for n in range(ROWS)]]}
    task = load_hub_task(make_task(AbsTaskPairClassification, "PairClassification", packed), 10, online=True)
    test = task.dataset["test"]
    assert test["sentence1"][:] == test["sentence2"][:]
    assert len(test) == 10


def test_a_task_whose_rows_depend_on_each_other_is_left_whole_with_a_warning(caplog):
    from mteb.abstasks import AbsTaskClusteringLegacy

    columns = {"sentences": [["a", "b"]] * 9, "labels": [[0, 1]] * 9}
    with caplog.at_level(logging.WARNING):
        task = load_hub_task(make_task(AbsTaskClusteringLegacy, "Clustering", columns), 2, online=True)
    assert len(task.dataset["test"]) == 9
    assert "eval.max_documents: Local is scored whole" in caplog.text


def test_a_clustering_of_fewer_documents_than_labels_is_warned_of(caplog: pytest.LogCaptureFixture):
    load_hub_task(clustering(), None, online=True)  # 4 of 100 documents, 3 labels
    assert not caplog.records
    load_hub_task(clustering(max_fraction_of_documents_to_embed=0.02), None, online=True)
    assert caplog.messages == [
        "Local: of 100 documents mteb draws 2, fewer than the 3 labels, so its score says nothing"
    ]
