"""Local files of pairs with a label of 0 or 1."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from embedllm.errors import InputError
from embedllm.eval.local_files import read_local
from embedllm.eval.score import score_tasks
from embedllm.eval.specs import parse_specs
from embedllm.eval.tasks import prepare_tasks

WORDS = ("trout", "salmon", "carp", "oak", "birch", "pine", "vega", "rigel", "moon", "sea")


@pytest.fixture
def labelled_pairs(write_csv: Callable[..., Path]) -> Path:
    """A csv of 60 pairs: those of label 1 share more words, on average."""
    rng = random.Random(2)
    rows = []
    for number in range(60):
        label = number % 3 == 0
        first = rng.choices(WORDS, k=6)
        kept = rng.randrange(2, 6) if label else rng.randrange(4)
        second = first[:kept] + rng.choices(WORDS, k=6 - kept)
        rows.append((f"{' '.join(first)} {number}", f"{' '.join(second)} {number}", int(label)))
    return write_csv([("sentence1", "sentence2", "label"), *rows], name="duplicates.csv")


def kind_of(spec: str) -> str:
    (parsed,) = parse_specs([spec])
    assert parsed.path is not None
    return read_local(parsed, parsed.path)[0].name


def test_the_score_is_the_average_precision_of_the_similarity(labelled_pairs, hash_encoder) -> None:
    score = score_tasks(hash_encoder(), parse_specs([str(labelled_pairs)]))["duplicates"]
    with labelled_pairs.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["label"]) for row in rows]
    first, second = (
        hash_encoder().encode([row[name] for row in rows]).astype(np.float64) for name in ("sentence1", "sentence2")
    )
    difference = first - second
    similarities = [
        (first * second).sum(1),  # the vectors have length 1: cosine and dot product alike
        -np.abs(difference).sum(1),
        -np.linalg.norm(difference, axis=1),
    ]
    best = max(average_precision_score(labels, similarity) for similarity in similarities)
    assert score["main_score"] == pytest.approx(100 * best, abs=1e-4)
    assert (score["metric"], score["std"], score["documents"]) == ("max_ap", None, 120)
    assert 34 < score["main_score"] < 99


def test_the_score_is_that_of_mteb_to_the_last_bit(labelled_pairs, hash_encoder) -> None:
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskPairClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    from embedllm.eval.encoder import make_encoder

    class ByHand(AbsTaskPairClassification):
        metadata = TaskMetadata(
            name="ByHand",
            description="",
            type="PairClassification",
            main_score="max_ap",
            dataset={"path": "local", "revision": "1"},
            eval_langs=["eng-Latn"],
        )

        def load_data(self, **_: object) -> None:
            rows = Dataset.from_csv(str(labelled_pairs)).rename_column("label", "labels")
            self.dataset = DatasetDict(test=rows)
            self.data_loaded = True

    alone = mteb.evaluate(make_encoder(hash_encoder(), "a/b", "1"), ByHand(), cache=None, co2_tracker=False)
    ours = score_tasks(hash_encoder(), parse_specs([str(labelled_pairs)]))["duplicates"]
    assert ours["main_score"] == 100 * alone.task_results[0].scores["test"][0]["max_ap"]


def test_columns_choose_pairs_or_similarity(labelled_pairs, pairs, write_csv) -> None:
    assert kind_of(str(labelled_pairs)) == "pairs"
    assert kind_of(str(pairs)) == "sts"
    both = write_csv(
        [("sentence1", "label", "score", "sentence2"), ("a", 0, 0.3, "b"), ("c", 1, 0.7, "d")], name="both.csv"
    )
    assert kind_of(str(both)) == "sts"
    assert kind_of(f"sts:{both}") == "sts"
    assert kind_of(f"pairs:{both}") == "pairs"


def test_a_file_of_scores_is_no_file_of_labels(pairs) -> None:
    with pytest.raises(InputError, match=r"lacks the column label that pairs needs; it has \['sentence1', 'sentence2'"):
        kind_of(f"pairs:{pairs}")


def test_wrong_columns_are_told_of_the_kind_too(write_csv) -> None:
    path = write_csv([("a", "b"), (1, 2)])
    with pytest.raises(InputError, match=r"it needs .* or sentence1, sentence2, label$"):
        kind_of(str(path))


def test_everything_but_the_data_is_as_mteb_has_it(labelled_pairs) -> None:
    from mteb.abstasks import AbsTaskPairClassification

    (prepared,) = prepare_tasks(parse_specs([str(labelled_pairs)]), 20)
    task = prepared.load()
    assert type(task).__bases__ == (AbsTaskPairClassification,)
    assert {name for name in vars(type(task)) if not name.startswith("_")} == {"metadata"}
    test = task.dataset["test"]
    assert len(test) == 20
    assert set(test["labels"][:]) == {0, 1}
    again = prepare_tasks(parse_specs([str(labelled_pairs)]), 20)[0].load()
    assert again.dataset["test"].to_dict() == test.to_dict()


def test_a_limit_that_leaves_one_label_is_refused(write_csv) -> None:
    rows = ((f"a {number}", f"b {number}", int(number == 50)) for number in range(100))
    path = write_csv([("sentence1", "sentence2", "label"), *rows])
    with pytest.raises(InputError, match=r"eval\.max_documents: 3 leaves one label only of eval\.tasks"):
        prepare_tasks(parse_specs([str(path)]), 3)
