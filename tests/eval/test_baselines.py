"""Models by name, and baselines through the same door."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer

from embedllm import Embedder
from embedllm.errors import InputError
from embedllm.eval.baselines import check_encoder, display_name, is_baseline, open_encoder, score_encoder
from embedllm.eval.score import score_tasks
from embedllm.eval.specs import parse_specs


@pytest.fixture(autouse=True)
def small_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    from mteb.abstasks import AbsTaskClustering

    monkeypatch.setattr(AbsTaskClustering, "max_documents_per_cluster", 256)


class Fitting:
    """Says what it was fitted to."""

    name = "fitting"

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.fits: list[list[str]] = []

    def fit(self, texts: Sequence[str]) -> None:
        self.fits.append(list(texts))

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        assert set(texts) <= set(self.fits[-1])
        return self.encoder.encode(texts)


class Named:
    name = "named"

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        return self.encoder.encode(texts)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_transductive_encoder_is_fitted_once_to_all_texts_of_each_task(
    topics: Path, pairs: Path, hash_encoder: Callable[..., Any]
) -> None:
    encoder = Fitting(hash_encoder())
    specs = parse_specs([str(pairs), str(topics), f"classification:{topics}"])
    scores = score_encoder(encoder, specs, None)
    both = {row[side] for row in rows_of(pairs) for side in ("sentence1", "sentence2")}
    labelled = {row["text"] for row in rows_of(topics)}
    assert [set(texts) for texts in encoder.fits] == [both, labelled, labelled]
    assert scores == score_tasks(hash_encoder(), specs)


@pytest.mark.slow
def test_it_is_fitted_to_the_sample_that_is_scored(pairs: Path, hash_encoder: Callable[..., Any]) -> None:
    encoder = Fitting(hash_encoder())
    score_encoder(encoder, parse_specs([str(pairs)]), 12)
    assert [len(texts) for texts in encoder.fits] == [24]


def test_another_encoder_has_the_scores_that_it_always_had(
    topics: Path, pairs: Path, hash_encoder: Callable[..., Any]
) -> None:
    specs = parse_specs([str(pairs), str(topics)])
    assert score_encoder(Named(hash_encoder()), specs, None) == score_tasks(hash_encoder(), specs)


def test_words_on_either_side_of_a_pair_count_in_one_space(pairs: Path) -> None:
    rows = rows_of(pairs)
    sides = [[row[name] for row in rows] for name in ("sentence1", "sentence2")]
    words = TfidfVectorizer().fit([text for side in sides for text in side])
    first, second = (words.transform(side).toarray() for side in sides)
    expected = spearmanr((first * second).sum(axis=1), [float(row["score"]) for row in rows])[0]
    scores = score_encoder(open_encoder("tfidf"), parse_specs([str(pairs)]), None)
    assert scores["pairs"]["main_score"] == pytest.approx(100 * expected, abs=1e-6)


def test_what_cannot_be_fitted_is_the_error_of_its_task(write_csv: Callable[..., Path], pairs: Path) -> None:
    wordless = write_csv([("text", "label"), ("!", "a"), ("?", "b")], name="wordless.csv")
    scores = score_encoder(open_encoder("tfidf"), parse_specs([str(wordless), str(pairs)]), None)
    assert scores["wordless"]["error"].startswith("ValueError: empty vocabulary")
    assert "main_score" in scores["pairs"]


def test_our_own_models_open_too(tiny_path: Path, tmp_path: Path) -> None:
    Embedder.from_pretrained(str(tiny_path), template="Text: {text}").save(tmp_path / "run" / "model")
    for name in (str(tmp_path / "run"), str(tmp_path / "run" / "model"), "embedded:tiny"):
        encoder = open_encoder(name)
        assert encoder.name == name
        np.testing.assert_array_equal(encoder.encode(["a", "b"]), Embedder.load(name).encode(["a", "b"]))


def test_names_of_baselines() -> None:
    assert [is_baseline(name) for name in ("tfidf", "st:x/y", "./tfidf", "a/b", "embedded:tiny")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_table_calls_a_folder_by_its_last_two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "study" / "run"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    names = [str(folder), ".", f"st:{folder}", "st:owner/name", "owner/name", "tfidf"]
    assert [display_name(name) for name in names] == [
        "study/run",
        "study/run",
        "st:study/run",
        "st:owner/name",
        "owner/name",
        "tfidf",
    ]


@pytest.mark.parametrize("name", ["./nowhere", "st:./nowhere", "no-such/model", "st:no-such/model"])
def test_a_model_that_is_not_there_is_found_out_without_weights(name: str) -> None:
    with pytest.raises(InputError):
        check_encoder(name)


def test_a_model_that_is_there_passes(tiny_path: Path, tmp_path: Path) -> None:
    Embedder.from_pretrained(str(tiny_path)).save(tmp_path / "model")
    (tmp_path / "modules.json").write_text("[]")
    for name in ("tfidf", "embedded:tiny", str(tiny_path), str(tmp_path), f"st:{tmp_path}"):
        check_encoder(name)
