"""The data files of the package: what is in them, and how settings find them."""

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from pyarrow import parquet

from embedllm.data.embedded_files import EMBEDDED_DATA, embedded_data_path, resolve_data_path
from embedllm.errors import InputError

MARKUP = re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|</?\w+[^<>]*>|''|&\w+;|==|https?:|\ufffc")
FOLDER = embedded_data_path("wordnet_definitions").parent


def read_rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, str]] = parquet.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


@pytest.fixture(scope="module")
def definitions() -> list[dict[str, str]]:
    return read_rows(embedded_data_path("wordnet_definitions"))


@pytest.fixture(scope="module")
def sentences() -> list[dict[str, str]]:
    return read_rows(embedded_data_path("wikipedia_sentences"))


@pytest.mark.parametrize(
    ("name", "columns"), [("wordnet_definitions", ["text", "label"]), ("wikipedia_sentences", ["title", "anchor"])]
)
def test_every_row_fills_every_column(name, columns):
    rows = read_rows(embedded_data_path(name))
    assert all(list(row) == columns and all(value.strip() for value in row.values()) for row in rows)


@pytest.mark.parametrize("name", EMBEDDED_DATA)
def test_no_text_stands_twice(name):
    texts = [plain(row.get("text") or row["anchor"]) for row in read_rows(embedded_data_path(name))]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_every_file_stays_small(path):
    assert path.stat().st_size < 500_000


def test_no_text_is_in_both_sets(definitions, sentences):
    assert {plain(row["text"]) for row in definitions}.isdisjoint(plain(row["anchor"]) for row in sentences)


def test_definitions_have_25_classes_of_at_most_80_rows(definitions):
    counts = Counter(row["label"] for row in definitions)
    assert len(counts) == 25
    assert "Tops" not in counts
    assert min(counts.values()) >= 40
    assert max(counts.values()) == 80


def test_a_definition_carries_the_class_of_its_synset(definitions):
    labels = {row["text"]: row["label"] for row in definitions}
    assert labels["any of various dung beetles"] == "animal"
    assert labels["crisp flake made from wheat"] == "food"
    assert labels["hormone secreted by the pineal gland"] == "body"


def test_definitions_quote_no_examples_and_have_three_words(definitions):
    assert [row["text"] for row in definitions if '"' in row["text"] or len(row["text"].split()) < 3] == []


@pytest.mark.parametrize(("name", "group"), [("wordnet_definitions", "label"), ("wikipedia_sentences", "title")])
def test_the_rows_of_a_group_are_spread_over_the_whole_file(name, group):
    rows = read_rows(embedded_data_path(name))
    places = defaultdict(list)
    for index, row in enumerate(rows):
        places[row[group]].append(index / len(rows))
    # The mean of 36 uniform draws lies within 0.2 of the middle (4 standard deviations).
    assert {key: p for key, p in places.items() if len(p) >= 36 and abs(sum(p) / len(p) - 0.5) > 0.2} == {}


def test_no_markup_is_left_in_the_sentences(sentences):
    assert [row["anchor"] for row in sentences if MARKUP.search(row["anchor"])] == []


def test_sentences_are_whole_and_of_8_to_40_words(sentences):
    whole = re.compile(r'[A-Z].*\."?')
    texts = [row["anchor"] for row in sentences]
    assert [text for text in texts if not whole.fullmatch(text) or not 8 <= len(text.split()) <= 40] == []


def test_sentences_are_spread_over_the_articles(sentences):
    counts = Counter(row["title"] for row in sentences)
    assert len(counts) > 90
    assert max(counts.values()) <= 36


def test_every_quoted_article_is_attributed_to_a_revision(sentences):
    pages = {row["title"]: row for row in read_rows(FOLDER / "wikipedia_pages.csv")}
    assert {row["title"] for row in sentences} == set(pages)
    assert all(row["revision_id"].isdigit() and row["timestamp"] <= "2016-05-01T07:08:29Z" for row in pages.values())


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("WORDNET_LICENSE.txt", "WordNet 3.0 Copyright 2006 by Princeton University"),
        ("WIKIPEDIA_LICENSE.txt", "Creative Commons Attribution-ShareAlike 3.0"),
    ],
)
def test_each_set_comes_with_its_licence(file, words):
    assert words in (FOLDER / file).read_text(encoding="utf-8")


def test_the_readme_gives_the_true_number_of_rows():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, file in EMBEDDED_DATA.items():
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        assert f"| {len(read_rows(FOLDER / file)):,} |" in row


def test_an_unknown_name_is_refused_with_the_known_ones():
    message = (
        r"^eval\.tasks: no embedded data set 'wordnet'; "
        r"the package has embedded:wordnet_definitions, embedded:wikipedia_sentences, embedded:wikipedia_pairs$"
    )
    with pytest.raises(InputError, match=message):
        resolve_data_path("embedded:wordnet", setting="eval.tasks")


def test_pairs_are_made_of_the_sentences_and_of_no_definition(definitions, sentences):
    pairs = read_rows(embedded_data_path("wikipedia_pairs"))
    texts, titles = [row["anchor"] for row in sentences], [row["title"] for row in sentences]
    assert {row["generator"] for row in pairs} == {"same_label", "llm"}
    scored = {plain(row["text"]) for row in definitions}
    for row in pairs:
        source = row["source_row"]
        assert row["anchor"] == texts[source]
        assert plain(row["anchor"]) != plain(row["positive"])
        assert not {plain(row["anchor"]), plain(row["positive"])} & scored
        if row["generator"] == "same_label":
            assert titles[texts.index(row["positive"])] == titles[source]


def test_a_spec_with_the_prefix_means_the_embedded_file():
    assert resolve_data_path("embedded:wikipedia_sentences") == embedded_data_path("wikipedia_sentences")


def test_any_other_spec_is_a_path_that_need_not_exist(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert resolve_data_path("~/pairs.csv") == Path("/home/ada/pairs.csv")
    assert resolve_data_path("data/embedded:x.csv") == Path("data/embedded:x.csv")
