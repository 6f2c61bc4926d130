"""Hard negatives are near texts of other pairs, and never one that means the same."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from embedllm.data.pairs import read_pairs
from embedllm.errors import InputError
from embedllm.synth.mining import Mining, mine_negatives
from embedllm.synth.pair_file import METADATA

COUNT = 40
ANCHORS = [f"anchor {i}" for i in range(COUNT)]
POSITIVES = [f"positive {i}" for i in range(COUNT)]


def on_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


STEP = 0.05
VECTORS = on_circle(np.arange(COUNT) * STEP), on_circle(np.arange(COUNT) * STEP)  # pair i stands at i steps


def distances(mining: Mining, positives: list[str] = POSITIVES, anchors: list[str] = ANCHORS) -> list[list[int]]:
    found = mining.negatives(anchors, positives, VECTORS, seed=0)
    return [[abs(int(text.split()[-1]) - i) for text in texts] for i, texts in enumerate(found)]


def test_negatives_come_from_the_range_of_ranks() -> None:
    found = distances(Mining(low=2, high=6, margin=0, count=4))  # two texts stand at each distance
    assert all(sorted(found[i]) == [2, 2, 3, 3] for i in range(5, COUNT - 5))


def test_negatives_do_not_depend_on_how_many_cosines_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    mining = Mining(low=2, high=6, margin=0, count=4)
    whole = distances(mining)
    monkeypatch.setattr("embedllm.synth.mining._COSINES", 3 * COUNT)
    assert distances(mining) == whole


def test_a_margin_keeps_those_away_that_are_nearly_as_near_as_the_positive() -> None:
    margin = 1 - np.cos(3.5 * STEP)
    found = distances(Mining(low=0, high=12, margin=margin, count=99))
    assert {min(line) for line in found[6:-6]} == {4}
    assert {max(line) for line in found[6:-6]} == {6}


def test_texts_of_the_same_anchor_are_no_negatives() -> None:
    anchors = [f"anchor {i // 2}" for i in range(COUNT)]
    for row, texts in enumerate(Mining(low=0, high=3, margin=0, count=3).negatives(anchors, POSITIVES, VECTORS, 0)):
        assert f"positive {row ^ 1}" not in texts
        assert f"positive {row}" not in texts


def test_a_text_equal_to_the_positive_is_no_negative() -> None:
    positives = [POSITIVES[0], "Positive 0!", *POSITIVES[2:]]
    assert "Positive 0!" not in Mining(low=0, high=40, margin=-1, count=99).negatives(ANCHORS, positives, VECTORS, 0)[0]


def test_mined_pairs_train_with_their_negatives(tiny_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "pairs.parquet"
    table = pa.table({"anchor": ANCHORS, "positive": POSITIVES, "style": ["x"] * COUNT})
    parquet.write_table(table.replace_schema_metadata({METADATA: b'{"kept": 40}'}), source)
    output = tmp_path / "mined.parquet"
    counts = mine_negatives(source, output, Mining(model=str(tiny_path), low=1, high=9, margin=-2), 0, progress=False)
    assert counts == {"pairs": COUNT, "without": 0}
    pairs = read_pairs(str(output), negative="negatives").pairs
    assert all(len(pair.negatives) == 1 and pair.negatives[0] in POSITIVES for pair in pairs)
    notes = json.loads(parquet.read_schema(output).metadata[METADATA])
    assert notes["kept"] == 40
    assert notes["mined"]["high"] == 9
    first = output.read_bytes()
    mine_negatives(source, output, Mining(model=str(tiny_path), low=1, high=9, margin=-2), 0, progress=False)
    assert output.read_bytes() == first


def test_negatives_that_are_there_stay(tiny_path: Path, tmp_path: Path) -> None:
    mining = Mining(model=str(tiny_path), low=0, high=9, margin=-2)
    first = {"anchor": ANCHORS, "positive": POSITIVES, "negatives": [["against"]] * 20 + [None] * 20}
    parquet.write_table(pa.table(first), tmp_path / "a.parquet")
    parquet.write_table(pa.table({**first, "negatives": ["against"] * 20 + [None] * 20}), tmp_path / "b.parquet")
    for name in ("a", "b"):
        mine_negatives(tmp_path / f"{name}.parquet", tmp_path / f"{name}2.parquet", mining, 0, progress=False)
    found = parquet.read_table(tmp_path / "a2.parquet")["negatives"].to_pylist()
    assert [len(texts) for texts in found] == [2] * 20 + [1] * 20
    assert all(texts[0] == "against" for texts in found[:20])
    assert parquet.read_table(tmp_path / "b2.parquet")["negatives"].to_pylist() == found


def test_a_model_that_is_not_there_is_named_as_it_was_given(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"anchor": ANCHORS, "positive": POSITIVES}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"^mine.model: no file or folder '/nothing'"):
        mine_negatives(tmp_path / "a.parquet", tmp_path / "b.parquet", Mining(model="/nothing"), 0, progress=False)


@pytest.mark.parametrize("wrong", [None, " ", 7], ids=["null", "blank", "number"])
def test_a_row_without_a_text_is_named(tmp_path: Path, wrong: object) -> None:
    anchors = [wrong] * 2 if isinstance(wrong, int) else ["a", wrong]
    parquet.write_table(pa.table({"anchor": anchors, "positive": ["b", "c"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"^FILE: row [12] of .* as anchor, which is no text"):
        mine_negatives(tmp_path / "a.parquet", tmp_path / "b.parquet", Mining(), 0)


@pytest.mark.parametrize(("low", "high"), [(5, 5), (-1, 3)])
def test_an_empty_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(InputError, match=r"mine.low: "):
        Mining(low=low, high=high)


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^FILE: no file at .*; --mine takes a parquet file"):
        mine_negatives(tmp_path / "none.parquet", tmp_path / "b.parquet", Mining(), 0)
    parquet.write_table(pa.table({"anchor": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="lacks the column 'positive'; it has anchor"):
        mine_negatives(tmp_path / "a.parquet", tmp_path / "b.parquet", Mining(), 0)
