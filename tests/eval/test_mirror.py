"""mteb's own tasks, read from a folder."""

import csv
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_mirrors import CASES, SCORED, Splits, build, classified, clustered, documents, in_sets, write
from threadpoolctl import threadpool_limits

from embedllm.eval.encoder import make_encoder
from embedllm.eval.hub_tasks import find_hub_task, load_hub_task
from embedllm.eval.mirror import load_mirror
from embedllm.eval.rng import isolated_rng
from embedllm.eval.specs import parse_specs
from embedllm.eval.suites import load_suite, suite_names
from embedllm.eval.tasks import prepare_tasks

SHARED = Path(os.environ.get("EMBEDLLM_DATA", "no such folder"))


@pytest.fixture(autouse=True)
def small_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    """mteb draws 16,384 documents for each of ten runs of k-means: too slow here, and not the point."""
    from mteb.abstasks import AbsTaskClustering

    monkeypatch.setattr(AbsTaskClustering, "max_documents_per_cluster", 256)


def by_mteb_alone(name: str, subsets: Mapping[str, Splits], encoder: Any) -> Any:
    """Return mteb's scores of its task with the data put where ``load_data`` would put them."""
    import mteb
    from datasets import Dataset, DatasetDict

    task = find_hub_task(name)
    made = [DatasetDict({split: Dataset.from_dict(rows) for split, rows in data.items()}) for data in subsets.values()]
    task.dataset = made[0] if task.hf_subsets == ["default"] else dict(zip(task.hf_subsets, made, strict=True))
    task.data_loaded = True
    return evaluated(mteb, task, encoder)


def evaluated(mteb: Any, task: Any, encoder: Any) -> Any:
    with threadpool_limits(1), isolated_rng():
        result = mteb.evaluate(make_encoder(encoder, "a/b", "1"), task, cache=None, co2_tracker=False)
    return result.task_results[0].scores


def through_the_mirror(name: str, mirror: Path, encoder: Any, max_documents: int | None = None) -> Any:
    import mteb

    (prepared,) = prepare_tasks(parse_specs([name], mirror=str(mirror)), max_documents)
    return evaluated(mteb, prepared.load(), encoder)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_mteb_on_the_same_data_to_the_last_bit(case, tmp_path, hash_encoder, monkeypatch) -> None:
    monkeypatch.setattr("embedllm.eval.tasks.hub_is_reachable", lambda: pytest.fail("the Hub was asked"))
    name = build(tmp_path, case)
    alone = by_mteb_alone(name, CASES[case][2], hash_encoder())
    scores = through_the_mirror(name, tmp_path, hash_encoder())
    assert scores == alone
    assert 0 < scores["test"][0]["main_score"] <= 1


@pytest.mark.parametrize("case", CASES)
def test_the_task_is_left_as_mteb_has_it(case, tmp_path) -> None:
    name = build(tmp_path, case)
    task, untouched = find_hub_task(name), find_hub_task(name)
    load_mirror(task, tmp_path)
    assert type(task) is type(untouched)
    assert vars(task).keys() - vars(untouched).keys() == {"dataset", "data_loaded"}
    assert task.rng_state.getstate() == untouched.rng_state.getstate()
    assert task.np_rng.bit_generator.state == untouched.np_rng.bit_generator.state
    for name in vars(untouched).keys() - {"rng_state", "np_rng"}:
        assert getattr(task, name) == getattr(untouched, name)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz"])
def test_texts_come_through_every_format_as_they_were(ending, tmp_path) -> None:
    data = clustered(60)
    write(tmp_path / "TwentyNewsgroupsClustering.v2" / f"test{ending}", {**data["test"], "id": list(range(60))})
    task = find_hub_task("TwentyNewsgroupsClustering.v2")
    load_mirror(task, tmp_path)
    assert task.dataset["test"].to_dict() == data["test"]


def test_a_limit_draws_from_the_mirror(tmp_path) -> None:
    name = build(tmp_path, "texts as labels")
    task = load_hub_task(find_hub_task(name), 10, online=False, mirror=tmp_path)
    assert len(task.dataset["test"]) == 10
    assert set(task.dataset["test"]["sentences"]) < set(clustered()["test"]["sentences"])


def test_labels_with_leading_zeros_stay_texts(tmp_path) -> None:
    columns = {"sentences": ["a", "b", "c"], "labels": ["1", "01", "2"]}
    write(tmp_path / "TwentyNewsgroupsClustering.v2" / "test.csv", columns)
    task = find_hub_task("TwentyNewsgroupsClustering.v2")
    load_mirror(task, tmp_path)
    assert task.dataset["test"]["labels"][:] == ["1", "01", "2"]


def test_an_empty_text_is_left_to_mteb(tmp_path) -> None:
    write(tmp_path / "TwentyNewsgroupsClustering.v2" / "test.csv", {"sentences": ["", "b"], "labels": ["x", "y"]})
    task = find_hub_task("TwentyNewsgroupsClustering.v2")
    load_mirror(task, tmp_path)
    assert task.dataset["test"]["sentences"][:] == ["", "b"]


@pytest.mark.parametrize("name", suite_names())
def test_every_task_of_every_suite_can_be_in_a_mirror(name, tmp_path) -> None:
    from mteb.abstasks import AbsTaskClusteringLegacy

    for spec in parse_specs(load_suite(name).tasks):
        if spec.path is None:
            task = find_hub_task(spec.name)
            lists = isinstance(task, AbsTaskClusteringLegacy)
            data = {
                "Clustering": in_sets(clustered(9), 4) if lists else clustered(9),
                "Classification": classified(),
                "STS": SCORED,
            }[task.metadata.type]
            for subset in task.hf_subsets:
                for split, columns in data.items():
                    write(tmp_path / spec.name / subset / f"{split}.jsonl", columns)
    assert all(
        prepared.load().data_loaded
        for prepared in prepare_tasks(parse_specs(load_suite(name).tasks, mirror=str(tmp_path)), 5)
    )


def test_data_that_are_not_mtebs_own_are_told_of(tmp_path, caplog) -> None:
    texts, _ = documents(3531)
    by_set = {"sentences": [texts], "labels": [[str(n % 126) for n in range(3531)]]}
    write(tmp_path / "WikiCitiesClustering" / "test.jsonl", by_set)
    with caplog.at_level(logging.WARNING):
        load_mirror(find_hub_task("WikiCitiesClustering"), tmp_path)
        assert caplog.text == ""
        build(tmp_path, "texts as labels")
        load_mirror(find_hub_task("TwentyNewsgroupsClustering.v2"), tmp_path)
    assert "has 400 documents in 'test', and mteb's own data 59545" in caplog.text
    assert "has 3 labels in 'test', and mteb's own data 20" in caplog.text


def test_statistics_are_those_of_the_subset(tmp_path, caplog) -> None:
    columns = SCORED["test"]
    write(tmp_path / "STS17" / "test.csv", {name: (values * 5)[:250] for name, values in columns.items()})
    with caplog.at_level(logging.WARNING):
        load_mirror(find_hub_task("STS17"), tmp_path)
    assert caplog.text == ""


def shared(name: str) -> dict[str, list[str]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {name} in the folder that EMBEDLLM_DATA names")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "file", "warns"),
    [("STS12", "sts_sts12.csv", False), ("STS13", "sts_sts13.csv", False), ("STSBenchmark", "sts_stsb_dev.csv", True)],
)
def test_real_pairs_score_as_by_mteb_alone(task, file, warns, tmp_path, hash_encoder, caplog) -> None:
    columns: dict[str, list[Any]] = dict(shared(file))
    (tmp_path / task).mkdir()
    (tmp_path / task / "test.csv").write_bytes((SHARED / file).read_bytes())
    columns["score"] = [float(score) for score in columns["score"]]
    with caplog.at_level(logging.WARNING, logger="embedllm"):
        scores = through_the_mirror(task, tmp_path, hash_encoder(64))
    assert ("eval.mirror" in caplog.text) == warns
    assert scores == by_mteb_alone(task, {"": {"test": columns}}, hash_encoder(64))
    assert 0.2 < scores["test"][0]["main_score"] < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "file"),
    [("Banking77Classification", "banking77_train.csv"), ("EmotionClassification", "emotion_dair_train.csv")],
)
def test_real_classes_score_as_by_mteb_alone(task, file, tmp_path, hash_encoder) -> None:
    columns = shared(file)
    halves: Splits = {
        split: {name: values[start:1600:2] for name, values in columns.items()}
        for start, split in enumerate(("train", "test"))
    }
    for split, half in halves.items():
        write(tmp_path / task / f"{split}.csv", half)
    scores = through_the_mirror(task, tmp_path, hash_encoder(64))
    assert scores == by_mteb_alone(task, {"": halves}, hash_encoder(64))
    assert 0.05 < scores["test"][0]["main_score"] < 0.9
