"""What is wrong with a mirror is one sentence."""

import re

import pytest
from made_mirrors import SCORED, build, classified, in_sets, write

from embedllm.errors import InputError
from embedllm.eval.hub_tasks import find_hub_task
from embedllm.eval.mirror import check_mirror, load_mirror
from embedllm.eval.mirror_files import mirror_digest, mirror_folder
from embedllm.eval.specs import parse_specs
from embedllm.eval.tasks import prepare_tasks

STS, CLUSTERING = "STS12", "TwentyNewsgroupsClustering.v2"
GOOD = {"sentences": ["a", "b"], "labels": ["x", "y"]}
PAIR = {"sentence1": ["a", "b"], "sentence2": ["c", "d"]}


@pytest.mark.parametrize(
    ("task", "files", "message"),
    [
        (STS, {}, r"DIR' has no folder 'STS12' with the data of that task"),
        (STS, {"dev.csv": SCORED["test"]}, r"DIR/STS12' has no file for the split 'test'; test ends in \.csv, \.tsv, "),
        (
            "Banking77Classification",
            {"test.csv": classified()["test"]},
            r"DIR/Banking77Classification' has no file for the split 'train'",
        ),
        (
            CLUSTERING,
            {"test.csv": GOOD, "test.jsonl": GOOD},
            rf"DIR/{CLUSTERING}' has both 'test\.csv' and 'test\.jsonl'; keep one",
        ),
        (
            "ClusTREC-Covid",
            {"test.csv": GOOD},
            r"DIR/ClusTREC-Covid' has no folder for the subset 'title and abstract', and the task is scored on it",
        ),
        (
            CLUSTERING,
            {"test.csv": {"text": ["a"], "label": ["x"]}},
            rf"DIR/{CLUSTERING}/test\.csv' lacks the columns sentences, labels of {CLUSTERING}; it has \['text', ",
        ),
        (STS, {"test.jsonl": PAIR}, r"DIR/STS12/test\.jsonl' lacks the column score of STS12; it has \['sentence1', "),
        (STS, {"test.csv": {**PAIR, "labels": [0, 1]}}, r"DIR/STS12/test\.csv' lacks the column score of STS12"),
        (CLUSTERING, {"test.csv": None}, rf"DIR/{CLUSTERING}/test\.csv' is empty"),
        (CLUSTERING, {"test.jsonl": None}, rf"DIR/{CLUSTERING}/test\.jsonl' is empty"),
        (CLUSTERING, {"test.csv": {"sentences": [], "labels": []}}, rf"DIR/{CLUSTERING}/test\.csv' has no rows"),
        (
            CLUSTERING,
            {"test.parquet": {"sentences": [], "labels": []}},
            rf"DIR/{CLUSTERING}/test\.parquet' has no rows",
        ),
        ("SciFact", {"test.csv": GOOD}, r"SciFact' is a Retrieval task; a mirror holds clustering, "),
    ],
)
def test_what_a_mirror_lacks_is_one_sentence_before_anything_is_scored(task, files, message, tmp_path) -> None:
    for name, columns in files.items():
        write(tmp_path / task / name, columns or {"a": []})
        if columns is None:
            (tmp_path / task / name).write_bytes(b"")
    with pytest.raises(InputError) as error:
        prepare_tasks(parse_specs([task], mirror=str(tmp_path)))
    sentence = str(error.value).replace(str(tmp_path), "DIR")
    assert "\n" not in sentence
    assert re.match(f"eval\\.mirror: '{message}", sentence), sentence


@pytest.mark.parametrize(
    ("task", "name", "columns", "message"),
    [
        (STS, "test.csv", {**PAIR, "score": [1, "high"]}, "has the score 'high' in row 2; a score must be a finite"),
        (
            "TwitterSemEval2015",
            "test.csv",
            {**PAIR, "labels": [1, 2]},
            "has the label '2' in row 2; the label of a pair",
        ),
        (
            CLUSTERING,
            "test.jsonl",
            {**GOOD, "sentences": ["a", None]},
            "has None in row 2 of column 'sentences', which",
        ),
        (
            CLUSTERING,
            "test.jsonl",
            {**GOOD, "sentences": [3, "b"]},
            "has 3 in row 1 of column 'sentences', which is not",
        ),
        (CLUSTERING, "test.jsonl", {**GOOD, "labels": ["x", None]}, "has the label None in row 2; labels must be all"),
        (
            CLUSTERING,
            "test.jsonl",
            {**GOOD, "labels": ["x", 1]},
            "has the label 1 in row 2; labels must be all texts or",
        ),
        (CLUSTERING, "test.jsonl", {**GOOD, "labels": [["x"], ["y", 1]]}, "holds values that are no table"),
        (CLUSTERING, "test.jsonl", {**GOOD, "labels": [1.5, float("nan")]}, "has the label nan in row 2"),
        (CLUSTERING, "test.csv", {**GOOD, "labels": ["x", ""]}, "has the label '' in row 2"),
        (CLUSTERING, "test.csv", {**GOOD, "labels": [["x"], ["y"]]}, "has lists in column 'labels'; a list of labels"),
        (CLUSTERING, "test.jsonl", {**GOOD, "sentences": ["a", "\ud800"]}, "holds values that are no table"),
        ("BuiltBenchClusteringS2S", "test.csv", GOOD, "a row of this task is a set, so 'sentences' and 'labels' must"),
        (
            "BuiltBenchClusteringS2S",
            "test.jsonl",
            in_sets({"test": GOOD}, 1)["test"] | {"labels": [["x"], []]},
            "has 1",
        ),
        (
            "BuiltBenchClusteringS2S",
            "test.jsonl",
            {"sentences": [["a", None]], "labels": [["x", "y"]]},
            "has None in row 2",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named(task, name, columns, message, tmp_path) -> None:
    write(tmp_path / task / name, columns)
    mteb_task = find_hub_task(task)
    check_mirror(mteb_task, tmp_path)
    with pytest.raises(InputError) as error:
        load_mirror(mteb_task, tmp_path)
    assert str(error.value).startswith(f"eval.mirror: '{tmp_path / task / name}'")
    assert message in str(error.value)
    assert not mteb_task.data_loaded


def test_a_list_of_labels_is_of_no_use_to_a_classifier(tmp_path) -> None:
    for split in ("train", "test"):
        columns = {"text": ["a", "b"], "label": [["x"], ["y"]]}
        write(tmp_path / "Banking77Classification" / f"{split}.jsonl", columns)
    with pytest.raises(InputError, match=r"has the label \['x'\] in row 1; labels must be all texts or all numbers$"):
        load_mirror(find_hub_task("Banking77Classification"), tmp_path)


def test_the_setting_is_null_or_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mirror_folder(None) is None
    assert mirror_folder(str(tmp_path)) == tmp_path
    assert mirror_folder("~") == tmp_path
    with pytest.raises(InputError, match=r"^eval\.mirror: no folder at 'no/such' \(looked from the folder "):
        mirror_folder("no/such")


def test_the_digest_follows_the_files_of_the_task_and_nothing_else(tmp_path) -> None:
    for folder in ("a", "b"):
        build(tmp_path / folder, "scores")
        build(tmp_path / folder, "pairs")
    first = mirror_digest("STS12", tmp_path / "a")
    assert len(first) == 16
    assert first == mirror_digest("STS12", tmp_path / "b")
    (tmp_path / "b" / "STS12" / "README").write_text("no data")
    write(tmp_path / "b" / "TwitterSemEval2015" / "test.csv", GOOD)
    assert first == mirror_digest("STS12", tmp_path / "b")
    assert mirror_digest("TwitterSemEval2015", tmp_path / "a") != mirror_digest("TwitterSemEval2015", tmp_path / "b")
    (tmp_path / "a" / "STS12" / "test.csv").rename(tmp_path / "a" / "STS12" / "dev.csv")
    assert first != mirror_digest("STS12", tmp_path / "a")
    with pytest.raises(InputError, match="has no folder 'STS13'"):
        mirror_digest("STS13", tmp_path / "a")
