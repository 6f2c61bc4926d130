"""Generators that need no model."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from embedllm.data.augment import draw_index
from embedllm.errors import InputError
from embedllm.synth.documents import SameLabel, Spans, split_sentences
from embedllm.synth.draft import Generator, Item
from embedllm.synth.mixture import Mixture
from embedllm.synth.nli import Nli
from embedllm.synth.rows import SourceRows, read_rows
from embedllm.synth.word_level import Dropout, WordNoise

TEXT = "The first sentence is here. A second one follows it! Is there a third one? The fourth one closes the text."
LABELLED = [Item(i, f"text number {i}", fields={"label": f"group {i % 3}"}) for i in range(9)]
INFERENCE = [
    ("A man sleeps.", "A person rests.", "entailment"),
    ("A man sleeps.", "A man runs.", "contradiction"),
    ("A man sleeps.", "He dreams.", "neutral"),
    ("A dog barks.", "An animal is loud.", "Entailment"),
]


def rows_of(items: list[Item]) -> SourceRows:
    return SourceRows(items, "digest")


@pytest.mark.parametrize(
    "generator", [WordNoise(), Spans(), Dropout(), Mixture({"a": Spans(), "b": Dropout()}, {"a": 1, "b": 1})]
)
def test_a_draft_does_not_depend_on_the_other_items(generator: Generator) -> None:
    items = [Item(i, f"{TEXT} {i}", seed=3) for i in range(20)]
    generator.prepare(rows_of(items))
    together = generator.generate(items)
    assert [generator.generate([item])[0] for item in reversed(items)] == together[::-1]


@pytest.mark.parametrize("generator", [WordNoise(), Spans()])
def test_seed_and_copy_change_the_draft(generator: Generator) -> None:
    keys = [{"seed": seed, "copy": copy} for seed in range(3) for copy in range(3)]
    drafts = [generator.generate([Item(0, TEXT * 3, **key)])[0] for key in keys]
    assert len({(draft.anchor, draft.positive) for draft in drafts}) >= 6


def test_dropout_repeats_the_text() -> None:
    (draft,) = Dropout().generate([Item(0, TEXT)])
    assert draft.anchor == draft.positive == TEXT


def test_spans_share_no_sentence_and_are_both_in_the_document() -> None:
    for copy in range(20):
        (draft,) = Spans(sentences=2).generate([Item(0, TEXT, copy=copy)])
        assert draft.anchor in TEXT
        assert draft.positive in TEXT
        assert not set(split_sentences(draft.anchor)) & set(split_sentences(draft.positive))


def test_one_long_sentence_is_cut_in_two() -> None:
    (draft,) = Spans(min_words=3).generate([Item(0, "one two three four five six seven")])
    assert sorted([draft.anchor, draft.positive]) == ["four five six seven", "one two three"]


def test_a_sentence_that_is_repeated_is_no_pair_with_itself() -> None:
    assert Spans().generate([Item(0, "All rights are reserved here. " * 3)])[0].reason == "too_short"
    (draft,) = Spans().generate([Item(0, "All rights are reserved here. " * 2 + "This page is about rivers.")])
    assert {draft.anchor, draft.positive} == {"All rights are reserved here.", "This page is about rivers."}


def test_sentences_keep_their_closing_quotes() -> None:
    assert split_sentences('He said "Go." Then he went (at last!) (home.)\nEnd') == [
        'He said "Go."',
        "Then he went (at last!)",
        "(home.)",
        "End",
    ]


def test_scripts_without_spaces_have_sentences_and_words() -> None:
    text = "今天天气很好。我们一起去公园散步！他说：“好的，走吧。”然后他们走了。"
    sentences = ["今天天气很好。", "我们一起去公园散步！", "他说：“好的，走吧。”", "然后他们走了。"]
    assert split_sentences(text) == sentences
    for copy in range(9):
        (draft,) = Spans().generate([Item(0, text, copy=copy)])
        assert draft.anchor in text
        assert draft.positive in text
    (draft,) = Spans(min_words=3).generate([Item(0, "我们去公园散步")])
    assert sorted([draft.anchor, draft.positive]) == ["公园散步", "我们去"]


def test_a_text_too_short_for_two_spans_says_so() -> None:
    assert Spans().generate([Item(0, "Four words are few.")])[0].reason == "too_short"


def test_same_label_pairs_texts_of_one_label() -> None:
    generator = SameLabel("label")
    generator.prepare(rows_of(LABELLED))
    for item, draft in zip(LABELLED, generator.generate(LABELLED), strict=True):
        other = int(draft.positive.split()[-1])
        assert other != item.row
        assert other % 3 == item.row % 3


def test_same_label_draws_each_text_that_is_another_one() -> None:
    texts = list("abbcadb")
    items = [Item(0, text, copy=copy, fields={"label": 1}) for text in "abcd" for copy in range(200)]
    generator = SameLabel("label")
    generator.prepare(rows_of([Item(i, text, fields={"label": 1}) for i, text in enumerate(texts)]))
    for item, draft in zip(items, generator.generate(items), strict=True):
        others = [text for text in texts if text != item.text]
        assert draft.positive == others[draw_index(len(others), item.rng("same_label"))]


def test_same_label_takes_no_longer_for_a_row_of_a_large_label() -> None:
    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            return not self == other

        __hash__ = str.__hash__

    items = [Item(i, Counted(f"text {i}"), fields={"label": 1}) for i in range(500)]
    generator = SameLabel("label")
    generator.prepare(rows_of(items))
    generator.generate(items)
    assert Counted.compared < 10 * len(items)


def test_a_text_alone_in_its_label_says_so() -> None:
    generator = SameLabel("label")
    items = [*LABELLED, Item(9, "alone", fields={"label": "nobody"}), Item(10, "none", fields={"label": None})]
    generator.prepare(rows_of(items))
    assert [draft.reason for draft in generator.generate(items)][-2:] == ["alone", "alone"]


def test_labels_that_are_all_different_are_refused() -> None:
    with pytest.raises(InputError, match=r"generator.label: no two texts"):
        SameLabel("label").prepare(rows_of([Item(i, f"t {i}", fields={"label": i}) for i in range(3)]))


def test_nli_pairs_entailments_with_contradictions_of_their_premise() -> None:
    items = [Item(i, p, fields={"hypothesis": h, "label": label}) for i, (p, h, label) in enumerate(INFERENCE)]
    generator = Nli()
    generator.prepare(rows_of(items))
    drafts = generator.generate(items)
    assert [draft.reason for draft in drafts] == ["", "not_entailed", "not_entailed", ""]
    assert (drafts[0].positive, drafts[0].negatives) == ("A person rests.", ("A man runs.",))
    assert drafts[3].negatives == ()
    strict = Nli(require_negative=True)
    strict.prepare(rows_of(items))
    assert strict.generate(items)[3].reason == "no_negative"


@pytest.mark.parametrize(("yes", "no"), [("Yes", "NO"), (1, 0), (True, False)], ids=str)
def test_labels_of_nli_may_be_written_in_any_way(yes: object, no: object) -> None:
    items = [
        Item(0, "A man sleeps.", fields={"hypothesis": "A person rests.", "label": str(yes).lower()}),
        Item(1, "A man sleeps.", fields={"hypothesis": "A man runs.", "label": no}),
    ]
    generator = Nli(entailment=[yes], contradiction=[no])  # type: ignore[list-item]
    generator.prepare(rows_of(items))
    assert generator.generate(items)[0].negatives == ("A man runs.",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"entailment": "yes"}, r"generator.entailment: 'yes' is not a list of labels; write \[yes\]"),
        ({"contradiction": None}, "generator.contradiction: None is not a list"),
        ({"negatives": -1}, "generator.negatives: -1 is not allowed"),
    ],
)
def test_settings_of_nli_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Nli(**settings)


def test_what_a_premise_entails_for_another_annotator_is_no_negative_of_it() -> None:
    said = [("A person rests.", "entailment"), ("a person rests", "contradiction"), ("A man runs.", "contradiction")]
    items = [Item(i, "A man sleeps.", fields={"hypothesis": h, "label": label}) for i, (h, label) in enumerate(said)]
    generator = Nli(negatives=9)
    generator.prepare(rows_of(items))
    assert generator.generate(items)[0].negatives == ("A man runs.",)


def test_nli_without_entailments_names_the_labels_found() -> None:
    items = [Item(0, "a", fields={"hypothesis": "b", "label": "yes"})]
    with pytest.raises(InputError, match=r"generator.entailment: .*found: yes"):
        Nli().prepare(rows_of(items))


def test_a_mixture_draws_by_weight_and_skips_weight_zero() -> None:
    class Unprepared(Dropout):
        def prepare(self, rows: object) -> None:
            raise AssertionError

    items = [Item(i, TEXT) for i in range(2000)]
    mixture = Mixture(
        {"spans": Spans(), "dropout": Dropout(), "never": Unprepared()}, {"spans": 3, "dropout": 1, "never": 0}
    )
    mixture.prepare(rows_of(items))
    counts = Counter(draft.generator for draft in mixture.generate(items))
    assert counts["never"] == 0
    assert 1400 < counts["spans"] < 1600  # 1,500 and four standard deviations of 19


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"span": 1}, "did you mean 'generator.weights.spans'"),
        ({"spans": 0}, "all are 0"),
        ({"spans": -1}, "generator.weights.spans: -1 is not a number of at least 0"),
        ({"spans": None}, "generator.weights.spans: None is not a number"),
        ({"spans": "all"}, "generator.weights.spans: 'all' is not a number"),
        ({"spans": float("nan")}, "generator.weights.spans: nan is not a number"),
    ],
)
def test_weights_that_draw_nothing_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mixture({"spans": Spans()}, weights)


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("text,title\na,b\n")
    with pytest.raises(InputError, match=r"column: no column 'anchor' in .*; it has text, title"):
        read_rows(str(file), column="anchor")
    with pytest.raises(InputError, match=r"no column 'label' in .*; it has text, title"):
        read_rows(str(file), column="text", fields=["label"])


def test_a_binary_source_is_refused_by_the_name_of_the_argument(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"\x89PNG\r\n\x00\x00")
    with pytest.raises(InputError, match=r"^FILE: .*"):
        read_rows(str(file), column="anchor")


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(
        '{"anchor": "whole \\ud83d\\ude00", "label": "a"}\n{"anchor": "half \\ud83d", "label": "b \\ude00"}\n'
    )
    rows = list(read_rows(str(file), column="anchor", fields=["label"]))
    assert [row.text for row in rows] == ["whole \U0001f600", "half \ufffd"]
    assert rows[1].fields == {"label": "b \ufffd"}
