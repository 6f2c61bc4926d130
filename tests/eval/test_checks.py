import math

import pytest

from embedllm.errors import InputError
from embedllm.eval.checks import check_classification, check_clustering, check_pairs, check_sts


def test_labels_become_text_and_may_occur_once():
    checked = check_clustering({"text": ["a", "b", "c"], "label": [1, 1, 2]}, "here")
    assert checked == {"text": ["a", "b", "c"], "label": ["1", "1", "2"]}


def test_scores_become_numbers():
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": ["0.5", 2]}
    assert check_sts(columns, "here")["score"] == [0.5, 2.0]


def test_classification_needs_each_label_twice():
    assert check_classification({"text": list("abcd"), "label": list("xxyy")}, "here")["label"] == list("xxyy")
    with pytest.raises(InputError, match=r"here has 1 label that occurs once \(such as 'y'\)"):
        check_classification({"text": list("abc"), "label": list("xxy")}, "here")


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], ["x", "x"], "one label 'x' in all 2 rows"),
        (["a"], ["x"], "one label 'x' in all 1 rows"),
        (["a", " ", ""], list("xyx"), r"here: empty text in column 'text' in 2 of 3 rows \(the first is row 2\)"),
        (["a", None], list("xy"), "empty text in column 'text' in 1 of 2 rows"),
        (["a", 7], list("xy"), "value in column 'text' that is not a text in 1 of 2 rows"),
        (["a", "b"], ["x", ""], "empty label in 1 of 2 rows"),
        (["a", "b"], ["x", math.nan], "empty label in 1 of 2 rows"),
        (["a", "b"], ["x", ["y"]], "label that is no text or number in 1 of 2 rows"),
    ],
)
def test_labelled_texts_that_cannot_be_scored_are_refused(texts, labels, message):
    with pytest.raises(InputError, match=message):
        check_clustering({"text": texts, "label": labels}, "here")


@pytest.mark.parametrize("score", ["high", "", None, "nan", math.nan, "inf", True, [1]])
def test_a_score_that_is_no_finite_number_is_refused_with_its_row(score):
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": [1.0, score]}
    with pytest.raises(InputError, match=r"here has the score .* in row 2"):
        check_sts(columns, "here")


def test_equal_scores_have_no_correlation_and_are_refused():
    with pytest.raises(InputError, match=r"one score 1\.0 in all 2 rows"):
        check_sts({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": [1, "1.0"]}, "here")


def test_an_empty_second_sentence_is_refused():
    with pytest.raises(InputError, match="empty text in column 'sentence2'"):
        check_sts({"sentence1": ["a", "b"], "sentence2": ["", "d"], "score": [1, 2]}, "here")


def test_labels_of_pairs_become_numbers():
    columns = {"sentence1": list("abcd"), "sentence2": list("efgh"), "label": ["0", 1, "1", 0.0]}
    checked = check_pairs(columns, "here")
    assert checked == {"sentence1": list("abcd"), "sentence2": list("efgh"), "label": [0, 1, 1, 0]}
    assert {type(label) for label in checked["label"]} == {int}


@pytest.mark.parametrize("label", ["2", -1, 0.5, "", None, "yes", "nan", math.nan, True, [1]])
def test_a_label_of_a_pair_that_is_not_0_or_1_is_refused_with_its_row(label):
    columns = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"], "label": [0, 1, label]}
    with pytest.raises(InputError, match=r"here has the label .* in row 3; the label of a pair must be 0 or 1"):
        check_pairs(columns, "here")


def test_pairs_of_one_label_are_refused():
    with pytest.raises(InputError, match=r"here has the one label 1 in all 2 rows; it needs both 0 and 1"):
        check_pairs({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, "1"]}, "here")


@pytest.mark.parametrize("name", ["sentence1", "sentence2"])
def test_an_empty_sentence_of_a_pair_is_refused(name):
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1]}
    with pytest.raises(InputError, match=rf"empty text in column '{name}' in 1 of 2 rows \(the first is row 2\)"):
        check_pairs({**columns, name: ["a", " "]}, "here")
