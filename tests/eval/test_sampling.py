import random
from collections import Counter

import pytest

from embedllm.eval.sampling import sample_rows, split_rows

LABELS = ["a"] * 61 + ["b"] * 30 + ["c"] * 9


def test_a_sample_has_no_row_twice_and_is_in_order():
    rows = sample_rows(1000, 100)
    assert rows == sorted(set(rows))
    assert len(rows) == 100
    assert max(rows) > 900


@pytest.mark.parametrize("limit", [None, 5, 6])
def test_a_limit_that_does_not_bind_keeps_all(limit):
    assert sample_rows(5, limit) == [0, 1, 2, 3, 4]


def test_a_sample_depends_on_no_global_state():
    random.seed(1)
    first = sample_rows(100, 10), split_rows(LABELS, 20)
    random.seed(2)
    state = random.getstate()
    assert (sample_rows(100, 10), split_rows(LABELS, 20)) == first
    assert random.getstate() == state


def test_halves_part_the_rows_within_each_label():
    train, test = split_rows(LABELS, None)
    assert sorted(train + test) == list(range(len(LABELS)))
    assert Counter(LABELS[row] for row in train) == {"a": 31, "b": 15, "c": 5}


def test_halves_are_drawn_at_random():
    train, _ = split_rows(LABELS, None)
    assert train[:31] != list(range(31))


def test_a_limited_half_keeps_the_shares_of_the_labels():
    for half in split_rows(LABELS, 20):
        counts = Counter(LABELS[row] for row in half)
        assert len(half) == 20
        assert abs(counts["a"] - 12.2) < 2
        assert abs(counts["b"] - 6) < 2
        assert abs(counts["c"] - 1.8) < 2


def test_a_smaller_half_is_part_of_a_larger_one():
    small, large = split_rows(LABELS, 10), split_rows(LABELS, 30)
    assert all(set(few) < set(many) for few, many in zip(small, large, strict=True))
