import csv
import logging
import random
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from embedllm.errors import InputError
from embedllm.eval.score import mean_score, score_tasks
from embedllm.eval.specs import parse_specs
from embedllm.eval.tasks import PreparedTask, prepare_tasks


@pytest.fixture(autouse=True)
def small_experiments(monkeypatch):
    """mteb draws 16,384 documents (with replacement) for each of ten k-means runs: too slow here, and not the point."""
    from mteb.abstasks import AbsTaskClustering

    monkeypatch.setattr(AbsTaskClustering, "max_documents_per_cluster", 256)


class Lookup:
    """What somebody else would hand to mteb: vectors by text, and nothing of ours."""

    def __init__(self, vectors):
        from mteb.models import ModelMeta

        self.vectors = vectors
        self.mteb_model_meta = ModelMeta.create_empty(overwrites={"name": "test/lookup", "revision": "1"})

    def encode(self, inputs, **_):
        return np.stack([self.vectors[text] for batch in inputs for text in batch["text"]])

    def similarity(self, first, second):
        return torch.as_tensor(first) @ torch.as_tensor(second).T

    def similarity_pairwise(self, first, second):
        return (torch.as_tensor(first) * torch.as_tensor(second)).sum(-1)


class Broken:
    def __init__(self, encoder, value):
        self.encoder = encoder
        self.value = value

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if "moon" in " ".join(texts):
            if isinstance(self.value, Exception):
                raise self.value
            return np.full((len(texts), 4), self.value, np.float32)
        return self.encoder.encode(texts)


def by_mteb_alone(base, kind, main_score, splits, encoder, **settings):
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.task_metadata import TaskMetadata

    class Task(base):
        metadata = TaskMetadata(
            name="ByHand",
            description="",
            type=kind,
            main_score=main_score,
            dataset={"path": "local", "revision": "1"},
            eval_langs=["eng-Latn"],
        )

        def load_data(self, **_):
            self.dataset = DatasetDict({name: Dataset.from_dict(columns) for name, columns in splits.items()})
            self.data_loaded = True

    for name, value in settings.items():
        setattr(Task, name, value)
    texts = [text for columns in splits.values() for column in columns.values() for text in column]
    texts = [text for text in dict.fromkeys(texts) if isinstance(text, str)]
    lookup = Lookup(dict(zip(texts, encoder.encode(texts), strict=True)))
    with threadpool_limits(1):
        return mteb.evaluate(lookup, Task(), cache=None, co2_tracker=False).task_results[0].scores["test"][0]


def columns_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_a_clustering_score_is_that_of_mteb_to_the_last_bit(topics, hash_encoder):
    from mteb.abstasks import AbsTaskClustering

    columns = columns_of(topics)
    splits = {"test": {"sentences": columns["text"], "labels": columns["label"]}}
    alone = by_mteb_alone(
        AbsTaskClustering, "Clustering", "v_measure", splits, hash_encoder(), max_fraction_of_documents_to_embed=None
    )
    ours = score_tasks(hash_encoder(), parse_specs([str(topics)]))["topics"]
    assert ours["main_score"] == 100 * alone["v_measure"]
    assert ours["std"] == 100 * alone["v_measure_std"]
    assert (ours["metric"], ours["documents"], ours["mteb"]) == ("v_measure", 91, version("mteb"))
    assert 1 < ours["main_score"] < 99


def test_a_classification_score_is_that_of_mteb_to_the_last_bit(topics, hash_encoder):
    from mteb.abstasks import AbsTaskClassification

    from embedllm.eval.sampling import split_rows

    columns = columns_of(topics)
    number = {"fish": 0, "star": 1, "tree": 2}
    splits = {
        name: {"text": [columns["text"][n] for n in rows], "label": [number[columns["label"][n]] for n in rows]}
        for name, rows in zip(("train", "test"), split_rows(columns["label"], None), strict=True)
    }
    alone = by_mteb_alone(AbsTaskClassification, "Classification", "accuracy", splits, hash_encoder())
    ours = score_tasks(hash_encoder(), parse_specs([f"classification:{topics}"]))["topicsClassification"]
    assert ours["main_score"] == 100 * alone["accuracy"]
    assert ours["metric"] == "accuracy"
    assert 34 < ours["main_score"] < 99


def test_a_similarity_score_is_that_of_mteb_to_the_last_bit(pairs, hash_encoder):
    from mteb.abstasks import AbsTaskSTS

    columns = columns_of(pairs)
    splits = {"test": {**columns, "score": [float(score) for score in columns["score"]]}}
    alone = by_mteb_alone(AbsTaskSTS, "STS", "cosine_spearman", splits, hash_encoder())
    ours = score_tasks(hash_encoder(), parse_specs([str(pairs)]))["pairs"]
    assert ours["main_score"] == 100 * alone["cosine_spearman"]
    assert (ours["metric"], ours["std"], ours["documents"]) == ("cosine_spearman", None, 80)
    assert 50 < ours["main_score"] < 99


def test_scores_repeat_to_the_last_bit_and_follow_the_encoder(topics, pairs, hash_encoder):
    specs = parse_specs([str(topics), f"classification:{topics}", str(pairs)])
    first = score_tasks(hash_encoder(), specs)
    other = score_tasks(hash_encoder(salt="another model"), specs)
    assert score_tasks(hash_encoder(), specs) == first
    assert first["topics"]["main_score"] != other["topics"]["main_score"]
    assert first["pairs"]["main_score"] != other["pairs"]["main_score"]


def test_random_states_are_left_alone(topics, hash_encoder):
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002

    def seed():
        random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002

    seed()
    expected = draw()
    seed()
    score_tasks(hash_encoder(), parse_specs([str(topics)]), max_documents=20)
    assert draw() == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "EncodingError: 91 of 91 vectors hold NaN or infinity"),
        (RuntimeError("out of\nmemory"), "RuntimeError: out of memory"),
    ],
)
def test_a_task_that_fails_leaves_the_others_their_scores(topics, write_csv, hash_encoder, value, message):
    other = write_csv([("text", "label"), ("oak", "tree"), ("carp", "fish"), ("elm", "tree")], name="other.csv")
    scores = score_tasks(Broken(hash_encoder(), value), parse_specs([str(topics), str(other)]))
    assert list(scores) == ["topics", "other"]
    assert list(scores["topics"]) == ["error"]
    assert scores["topics"]["error"].startswith(message)
    assert scores["other"]["main_score"] > 0
    assert mean_score(scores) is None


def test_what_the_encoder_refuses_as_an_input_is_no_tasks_failure(topics, pairs, hash_encoder):
    scored = []
    with pytest.raises(InputError, match="^model.name: its weights are damaged$"):
        score_tasks(
            Broken(hash_encoder(), InputError("model.name: its weights are damaged")),
            parse_specs([str(pairs), str(topics)]),
            on_result=lambda name, score: scored.append(name),
        )
    assert "topics" not in scored


def test_data_that_turn_out_to_be_wrong_when_loaded_are_one_tasks_failure(topics, pairs, hash_encoder, monkeypatch):
    def load():
        raise InputError("eval.mirror: the file has a score that is no number")

    prepared = [PreparedTask("bad", load), *prepare_tasks(parse_specs([str(pairs)]))]
    monkeypatch.setattr("embedllm.eval.score.prepare_tasks", lambda *_: prepared)
    scores = score_tasks(hash_encoder(), [])
    assert scores["bad"] == {"error": "DataError: eval.mirror: the file has a score that is no number"}
    assert scores["pairs"]["main_score"] > 0


def test_a_score_that_is_not_a_number_is_an_error(pairs, hash_encoder):
    class Constant:
        def encode(self, texts):
            return np.ones((len(texts), 4), np.float32)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*constant")  # the error says it
        scores = score_tasks(Constant(), parse_specs([str(pairs)]))
    assert "cosine_spearman is nan" in scores["pairs"]["error"]


def test_a_task_whose_data_cannot_be_had_fails_alone_and_the_hub_is_asked_once(
    pairs, hash_encoder, monkeypatch, tmp_path
):
    import datasets.config
    from huggingface_hub import constants

    asked = []
    monkeypatch.setattr("embedllm.eval.tasks.hub_is_reachable", lambda: bool(asked.append("head")))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    specs = parse_specs(["TwentyNewsgroupsClustering.v2", str(pairs), "STS17"])
    scores = score_tasks(hash_encoder(), specs)
    assert "Couldn't reach" in scores["TwentyNewsgroupsClustering.v2"]["error"]
    assert "error" in scores["STS17"]
    assert scores["pairs"]["main_score"] > 0
    assert asked == ["head"]


@pytest.mark.slow
def test_wrong_input_is_found_before_anything_is_embedded(topics, write_csv, hash_encoder):
    bad = write_csv([("text", "label"), ("a", "x")], name="bad.csv")
    for last in (str(bad), "NoSuchTaskAnywhere"):
        encoder = hash_encoder()
        with pytest.raises(InputError):
            score_tasks(encoder, parse_specs([str(topics), last]))
        assert encoder.calls == []


def test_results_are_reported_as_they_come_and_logged(topics, pairs, hash_encoder, caplog):
    reported = []
    with caplog.at_level(logging.INFO):
        scores = score_tasks(
            hash_encoder(),
            parse_specs([str(pairs), str(topics)]),
            max_documents=20,
            on_result=lambda name, score: reported.append((name, score)),
        )
    assert reported == list(scores.items())
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("embedllm")]
    assert [line.split(":")[0] for line in ours] == ["pairs", "topics"]
    assert not [record for record in caplog.records if record.name.startswith("mteb")]


def test_nothing_asked_is_nothing_scored(hash_encoder):
    assert score_tasks(hash_encoder(), []) == {}


def test_the_mean_is_over_all_tasks_or_there_is_none():
    good, better = {"main_score": 10.0}, {"main_score": 30.0}
    assert mean_score({"a": good, "b": better}) == 20.0
    assert mean_score({"a": good, "b": {"error": "lost"}}) is None
    assert mean_score({}) is None
