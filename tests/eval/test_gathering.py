"""Evidence that is gathered while a task is scored: it is of what was scored, and changes nothing."""

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_mirrors import CASES, build, documents, write

from embedllm.eval.bootstrap import Draws
from embedllm.eval.classification_evidence import ClassificationEvidence
from embedllm.eval.evidence import Evidence, gather
from embedllm.eval.pair_evidence import PairClassificationEvidence, SimilarityEvidence
from embedllm.eval.paired import AnyEvidence
from embedllm.eval.score import TaskScore, score_tasks
from embedllm.eval.specs import parse_specs
from embedllm.eval.stored import digests

pytestmark = pytest.mark.usefixtures("quick_scores")

Encoder = Callable[..., Any]


@pytest.fixture
def duplicates(write_csv: Callable[..., Path]) -> Path:
    """A csv of 60 pairs with a label: those of label 1 share more words, on average."""
    rng = random.Random(2)
    words = ("trout", "salmon", "carp", "oak", "birch", "pine", "vega", "rigel", "moon", "sea")
    rows = []
    for number in range(60):
        first = rng.choices(words, k=6)
        kept = rng.randrange(2, 6) if number % 3 == 0 else rng.randrange(4)
        second = first[:kept] + rng.choices(words, k=6 - kept)
        rows.append((f"{' '.join(first)} {number}", f"{' '.join(second)} {number}", int(number % 3 == 0)))
    return write_csv([("sentence1", "sentence2", "label"), *rows], name="duplicates.csv")


def scored(encoder: Any, *specs: object, **options: Any) -> tuple[dict[str, TaskScore], dict[str, AnyEvidence]]:
    """Score with evidence; hold it against the scores without."""
    evidence: dict[str, AnyEvidence] = {}
    mirror = options.pop("mirror", None)
    names = [str(spec) for spec in specs]
    scores = score_tasks(encoder, parse_specs(names, mirror=mirror), on_evidence=evidence.__setitem__, **options)
    assert score_tasks(encoder, parse_specs(names, mirror=mirror), **options) == scores
    return scores, evidence


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_all(evidence: Any) -> float:
    """The score of every document and every run once."""
    return float(evidence.scores(Draws(np.ones((1, len(evidence.documents))), np.arange(evidence.runs)[None]))[0])


@pytest.mark.parametrize("limit", [None, 20])
def test_pairs_with_scores(pairs: Path, hash_encoder: Encoder, limit: int | None) -> None:
    scores, found = scored(hash_encoder(), pairs, max_documents=limit)
    evidence = found["pairs"]
    assert isinstance(evidence, SimilarityEvidence)
    assert of_all(evidence) == pytest.approx(scores["pairs"]["main_score"], abs=1e-9)
    both = {digest: float(row["score"]) for row, digest in zip(rows_of(pairs), pair_digests(pairs), strict=True)}
    assert len(evidence.documents) == (limit or 40)
    assert evidence.gold.tolist() == [both[digest] for digest in evidence.documents]


@pytest.mark.parametrize("limit", [None, 30])
def test_pairs_with_labels(duplicates: Path, hash_encoder: Encoder, limit: int | None) -> None:
    scores, found = scored(hash_encoder(), duplicates, max_documents=limit)
    evidence = found["duplicates"]
    assert isinstance(evidence, PairClassificationEvidence)
    assert of_all(evidence) == pytest.approx(scores["duplicates"]["main_score"], abs=1e-9)
    both = {
        digest: row["label"] == "1" for row, digest in zip(rows_of(duplicates), pair_digests(duplicates), strict=True)
    }
    assert len(evidence.documents) == (limit or 60)
    assert evidence.same.tolist() == [both[digest] for digest in evidence.documents]


def pair_digests(path: Path) -> list[str]:
    return digests((row["sentence1"], row["sentence2"]) for row in rows_of(path)).tolist()


@pytest.mark.thinned(2)
@pytest.mark.parametrize("limit", [None, 30])
def test_classes(topics: Path, hash_encoder: Encoder, limit: int | None) -> None:
    encoder = hash_encoder()
    scores, found = scored(encoder, f"classification:{topics}", max_documents=limit)
    evidence = found["topicsClassification"]
    assert isinstance(evidence, ClassificationEvidence)
    assert of_all(evidence) == pytest.approx(scores["topicsClassification"]["main_score"], abs=1e-9)
    tested = next(
        call for call in encoder.calls if digests((text,) for text in call).tolist() == evidence.documents.tolist()
    )
    assert set(tested) < {row["text"] for row in rows_of(topics)}
    assert evidence.correct.shape == (10, len(tested))


@pytest.mark.parametrize("limit", [None, 30])
def test_clusters(topics: Path, hash_encoder: Encoder, limit: int | None) -> None:
    scores, found = scored(hash_encoder(), topics, max_documents=limit)
    evidence = found["topics"]
    assert isinstance(evidence, Evidence)
    rows = {digest: row for row, digest in zip(rows_of(topics), text_digests(rows_of(topics)), strict=True)}
    embedded = [rows[digest] for digest in evidence.documents.tolist()]
    assert len(embedded) == (limit or 91) == scores["topics"]["documents"]
    assert evidence.labels.tolist() == [row["label"] for row in embedded]
    texts = [row["text"] for row in embedded]
    score = scores["topics"]["main_score"]
    expected = gather(texts, evidence.labels.tolist(), hash_encoder().encode(texts), score)
    assert float(evidence.score) == score
    np.testing.assert_array_equal(evidence.halves, expected.halves)
    np.testing.assert_array_equal(evidence.components, expected.components)


def text_digests(rows: Sequence[dict[str, str]]) -> list[str]:
    return digests((row["text"],) for row in rows).tolist()


def test_a_text_that_occurs_with_two_labels_keeps_both(write_csv: Callable[..., Path], hash_encoder: Encoder) -> None:
    rows = [("a bank", "money"), ("a river", "water"), ("a bank", "water"), ("a coin", "money"), ("a bank", "water")]
    path = write_csv([("text", "label"), *rows], name="bank.csv")
    _, found = scored(hash_encoder(), path)
    evidence = found["bank"]
    assert isinstance(evidence, Evidence)
    assert evidence.labels.tolist() == [label for _, label in rows]
    assert evidence.documents.tolist() == digests((text,) for text, _ in rows).tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:An input array is constant", "ignore:Number of distinct clusters")
def test_what_has_no_score_has_no_evidence(topics: Path, pairs: Path, duplicates: Path, hash_encoder: Encoder) -> None:
    class Broken:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            if any("elm" in text or "moon" in text for text in texts):
                raise RuntimeError("out of memory")
            return hash_encoder().encode(texts)

    class Constant:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.ones((len(texts), 3), np.float32)

    class Infinite:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.full((len(texts), 3), np.inf, np.float32)

    specs = parse_specs([str(topics), f"classification:{topics}", str(duplicates), str(pairs)])
    names = [spec.name for spec in specs]
    for encoder, failing in ((Broken(), names), (Infinite(), names), (Constant(), ["pairs"])):
        evidence: dict[str, AnyEvidence] = {}
        scores = score_tasks(encoder, specs, on_evidence=evidence.__setitem__)
        assert [name for name in names if "error" in scores[name]] == failing
        assert list(evidence) == [name for name in names if name not in failing]


def test_evidence_comes_before_the_result_and_task_by_task(topics: Path, pairs: Path, hash_encoder: Encoder) -> None:
    seen: list[tuple[str, str]] = []
    score_tasks(
        hash_encoder(),
        parse_specs([str(pairs), str(topics)]),
        on_evidence=lambda name, evidence: seen.append((name, type(evidence).__name__)),
        on_result=lambda name, score: seen.append((name, score["metric"])),
    )
    assert seen == [
        ("pairs", "SimilarityEvidence"),
        ("pairs", "cosine_spearman"),
        ("topics", "Evidence"),
        ("topics", "v_measure"),
    ]


KINDS: dict[str, type[AnyEvidence] | None] = {
    "texts as labels": Evidence,
    "minus one": Evidence,
    "one subset, no folder": Evidence,
    "two levels": None,
    "some of one level": None,
    "sets": None,
    "two subsets": None,
    "classes as numbers": ClassificationEvidence,
    "scores of a subset": SimilarityEvidence,
    "pairs in one row": PairClassificationEvidence,
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("case", KINDS)
def test_tasks_of_a_mirror(case: str, tmp_path: Path, hash_encoder: Encoder) -> None:
    name = build(tmp_path, case)
    encoder = hash_encoder()
    scores, found = scored(encoder, name, mirror=str(tmp_path))
    evidence = found.get(name)
    assert type(evidence) is (KINDS[case] or type(None))
    if isinstance(evidence, Evidence):
        columns = CASES[case][2][""]["test"]
        label = dict(zip(columns["sentences"], columns["labels"], strict=True))
        embedded = [text for text in encoder.calls[0] if label[text] != -1]  # mteb leaves those of -1 out
        assert evidence.labels.tolist() == [str(label[text]) for text in embedded]
        assert evidence.documents.tolist() == digests((text,) for text in embedded).tolist()
    elif evidence is not None:
        assert of_all(evidence) == pytest.approx(scores[name]["main_score"], abs=1e-9)


def test_to_mteb_itself_a_label_of_minus_one_is_none(tmp_path: Path, hash_encoder: Encoder) -> None:
    """Vectors of such documents change neither the score nor the evidence."""
    name = build(tmp_path, "minus one")
    columns = CASES["minus one"][2][""]["test"]
    label = dict(zip(columns["sentences"], columns["labels"], strict=True))

    class Moved:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            vectors = hash_encoder().encode(texts)
            return np.where([[label[text] == -1] for text in texts], 9, vectors)

    score, evidence = scored(hash_encoder(), name, mirror=str(tmp_path))
    moved_score, moved_evidence = scored(Moved(), name, mirror=str(tmp_path))
    assert score == moved_score
    for field, value in vars(evidence[name]).items():
        np.testing.assert_array_equal(vars(moved_evidence[name])[field], value)


@pytest.mark.parametrize(("levels", "kind"), [(1, Evidence), (2, None)])
def test_one_level_in_lists_is_no_hierarchy(
    tmp_path: Path, hash_encoder: Encoder, levels: int, kind: type[Evidence] | None
) -> None:
    name = "ArXivHierarchicalClusteringS2S"
    texts, labels = documents(400)
    columns = {"sentences": texts, "labels": [[label, label[0]][:levels] for label in labels]}
    write(tmp_path / name / "test.jsonl", columns)
    encoder = hash_encoder()
    _, found = scored(encoder, name, mirror=str(tmp_path))
    assert type(found.get(name)) is (kind or type(None))
    if kind is not None:
        label = dict(zip(texts, labels, strict=True))
        assert found[name].labels.tolist() == [label[text] for text in encoder.calls[0]]
