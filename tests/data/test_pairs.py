import csv
import gzip
import hashlib
import json
import logging
from collections import Counter
from pathlib import Path

import pytest

from embedllm.data.pairs import LabelTable, Pair, PairSummary, fingerprint, read_pairs
from embedllm.errors import InputError

ROWS = [("a cat", "a feline"), ("a dog", 'a "hound", old'), ("naïve 🎉", "two\tcolumns")]
PAIRS = [Pair(*row) for row in ROWS]


def write(path: Path, content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return str(path)


def write_rows(path: Path, columns=("anchor", "positive"), rows=ROWS) -> str:
    """Write a table in the format that the name asks for."""
    form = path.name.removesuffix(".gz").rpartition(".")[2]
    if form == "parquet":
        from pyarrow import Table, parquet

        plain = path.with_name("plain")
        parquet.write_table(Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), plain)
        return write(path, plain.read_bytes())
    if form == "jsonl":
        return write(path, "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    plain = path.with_name("plain")
    with plain.open("w", newline="") as file:
        csv.writer(file, delimiter={"csv": ",", "tsv": "\t"}[form]).writerows([columns, *rows] if columns else rows)
    return write(path, plain.read_bytes())


FORMATS = ["csv", "tsv", "jsonl", "parquet", "csv.gz", "tsv.gz", "jsonl.gz", "parquet.gz"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_pairs(tmp_path, form):
    table = read_pairs(write_rows(tmp_path / f"x.{form}"))
    assert table.pairs == PAIRS
    assert table.summary == PairSummary(rows=3, pairs=3)
    assert [table.draw(index, seed=0, epoch=0) for index in range(len(table))] == PAIRS


@pytest.mark.parametrize("form", ["txt", "txt.gz"])
def test_a_line_of_text_is_a_text(tmp_path, form):
    path = write(tmp_path / f"x.{form}", "one,\rtwo\r\n\n  three  \nfour\u2028five")
    table = read_pairs(path, anchor="sentence", augmented=True)
    assert table.pairs == [Pair(text, text) for text in ("one,\rtwo", "three", "four\u2028five")]
    assert table.summary == PairSummary(rows=4, pairs=3, empty=1, identical=3)


@pytest.mark.parametrize("form", FORMATS)
def test_without_a_positive_column_the_anchor_holds_texts(tmp_path, form):
    path = write_rows(tmp_path / f"x.{form}", ("title", "text"))
    table = read_pairs(path, anchor="text", augmented=True)
    assert table.pairs == [Pair(text, text) for _, text in ROWS]


def test_no_positive_on_request(tmp_path):
    table = read_pairs(write_rows(tmp_path / "x.csv"), positive=None, augmented=True)
    assert table.pairs == [Pair(text, text) for text, _ in ROWS]


def test_named_columns_and_byte_order_mark(tmp_path):
    path = write(tmp_path / "x.csv", b"\xef\xbb\xbftext,text_aug\none,uno\n")
    assert read_pairs(path, anchor="text", positive="text_aug").pairs == [Pair("one", "uno")]


def test_column_numbers_mean_no_header(tmp_path):
    path = write_rows(tmp_path / "x.csv", columns=())
    assert read_pairs(path, anchor=0, positive=1).pairs == PAIRS
    assert read_pairs(path, anchor=1, positive=0).pairs == [Pair(b, a) for a, b in ROWS]


def test_negatives_of_one_or_more_columns_or_a_list(tmp_path):
    path = write_rows(
        tmp_path / "x.csv", ("sent0", "sent1", "hard_neg", "more"), [("a", "b", "c", "d"), ("e", "f", "", "g")]
    )
    one = read_pairs(path, anchor="sent0", positive="sent1", negative="hard_neg")
    assert [pair.negatives for pair in one.pairs] == [("c",), ()]
    two = read_pairs(path, anchor="sent0", positive="sent1", negative=["more", "hard_neg"])
    assert [pair.negatives for pair in two.pairs] == [("d", "c"), ("g",)]
    listed = write_rows(
        tmp_path / "x.jsonl", ("anchor", "positive", "n"), [("a", "b", ["c", "", "d"]), ("e", "f", None)]
    )
    assert [pair.negatives for pair in read_pairs(listed, negative="n").pairs] == [("c", "d"), ()]
    bare = write_rows(tmp_path / "y.csv", (), [("n", "a", "b")])
    assert read_pairs(bare, anchor=1, positive=2, negative=0).pairs == [Pair("a", "b", ("n",))]


def test_labels_of_pairs(tmp_path):
    path = write_rows(
        tmp_path / "x.jsonl", ("anchor", "positive", "y"), [("a", "b", 1), ("c", "d", 2), ("e", "f", None)]
    )
    table = read_pairs(path, label="y")
    assert [pair.label for pair in table.pairs] == ["1", "2"]
    assert table.summary.empty == 1


def test_cleaning_is_counted(tmp_path):
    rows = [("a", "b"), ("a", "b "), ("", "x"), ("x", "  "), ("same", "same"), ("a", "c"), ("a", "b")]
    table = read_pairs(write_rows(tmp_path / "x.csv", rows=rows))
    assert table.pairs == [Pair("a", "b"), Pair("same", "same"), Pair("a", "c")]
    assert table.summary == PairSummary(rows=7, pairs=3, empty=2, duplicates=2, identical=1)
    assert str(table.summary) == "3 pairs of 7 rows (dropped: 2 empty, 2 duplicate; 1 of equal texts)"


def test_max_pairs_keeps_the_first_and_reads_no_further(tmp_path):
    path = write(tmp_path / "x.csv", "anchor,positive\na,b\na,b\nc,d\nthis,row,is,ragged\n")
    assert read_pairs(path, max_pairs=2).pairs == [Pair("a", "b"), Pair("c", "d")]


LABELLED = [*((f"sport {i}", "sport") for i in range(5)), ("alone", "rare"), *((f"art {i}", "art") for i in range(3))]


@pytest.fixture
def labelled(tmp_path) -> LabelTable:
    table = read_pairs(write_rows(tmp_path / "x.csv", ("anchor", "topic"), LABELLED), label="topic")
    assert isinstance(table, LabelTable)
    return table


def test_label_pairs_are_other_texts_of_the_label(labelled):
    assert labelled.summary == PairSummary(rows=9, pairs=8, singletons=1)
    for epoch in range(20):
        for index in range(len(labelled)):
            pair = labelled.draw(index, seed=0, epoch=epoch)
            assert pair.anchor == labelled.pairs[index].anchor
            assert pair.positive != pair.anchor
            assert pair.positive.split()[0] == pair.anchor.split()[0] == pair.label


def test_label_pairs_depend_on_seed_epoch_and_index_alone(labelled):
    def epoch_of(seed: int, epoch: int, order) -> dict[int, Pair]:
        return {index: labelled.draw(index, seed=seed, epoch=epoch) for index in order}

    first = epoch_of(0, 0, range(8))
    assert epoch_of(0, 0, reversed(range(8))) == first
    assert epoch_of(0, 1, range(8)) != first
    assert epoch_of(1, 0, range(8)) != first


def test_every_other_text_is_equally_likely(labelled):
    for index in (0, 4):
        counts = Counter(labelled.draw(index, seed=0, epoch=epoch).positive for epoch in range(2000))
        assert len(counts) == 4
        assert min(counts.values()) > 400  # 5 standard deviations below 500


def test_fingerprint_is_of_the_bytes(tmp_path):
    content = b"anchor,positive\na,b\n"
    paths = [write(tmp_path / name, content) for name in ("x.csv", "other.csv")]
    assert {fingerprint(path) for path in paths} == {hashlib.sha256(content).hexdigest()}
    assert fingerprint(write(tmp_path / "x.csv", content + b"c,d\n")) != fingerprint(paths[1])
    assert fingerprint("hub:a/b") != fingerprint("hub:a/c")


def test_embedded_sentences_are_texts():
    table = read_pairs("embedded:wikipedia_sentences", augmented=True)
    assert len(table) > 1000
    assert fingerprint("embedded:wikipedia_sentences")


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("hub:owner/name", ("owner/name", None, "train")),
        ("hub:owner/name:pair", ("owner/name", "pair", "train")),
        ("hub:owner/name:pair:dev", ("owner/name", "pair", "dev")),
        ("hub:owner/name::dev", ("owner/name", None, "dev")),
    ],
)
def test_hub_data_sets(monkeypatch, spec, asked):
    import datasets

    calls = []

    def load_dataset(name, config, *, split):
        calls.append((name, config, split))
        return datasets.Dataset.from_list([{"anchor": a, "positive": b, "other": 1} for a, b in ROWS])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read_pairs(spec).pairs == PAIRS
    assert calls == [asked]


def test_a_file_of_a_hub_data_set_is_read_like_any_other(monkeypatch, tmp_path):
    local = tmp_path / "pairs.csv"
    local.write_text("sent0,sent1,hard_neg\na,b,c\nd,e,f\n")
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *args, **more: asked.append((*args, more["repo_type"])) or str(local)
    )
    table = read_pairs("hub:owner/name/in/pairs.csv", anchor="sent0", positive="sent1", negative="hard_neg")
    assert asked == [("owner/name", "in/pairs.csv", "dataset")]
    assert table.pairs[1] == Pair("d", "e", ("f",))


def test_a_file_of_the_hub_that_cannot_be_had_is_one_sentence():
    with pytest.raises(InputError, match=r"^data\.path: cannot load 'hub:no/such/file.csv' from the Hub") as error:
        read_pairs("hub:no/such/file.csv")
    assert "\n" not in str(error.value)


def test_hub_offline_is_one_sentence(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^data\.path: cannot load 'hub:no/such' from the Hub .*hub:owner/name"):
        read_pairs("hub:no/such")


GOOD = "anchor,positive\na,b\nc,d\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "data.path: .* is empty"),
        ("x.csv.gz", "", "data.path: .* is empty"),
        ("x.csv", "anchor,positive\n", "data.path: .* has no rows"),
        ("x.csv", "anchor,positive\n ,\n\n,\n", "data.path: .* has 2 rows, all of them empty"),
        ("x.txt", "\n\n", "data.path: .* has 2 rows, all of them empty"),
        ("x.txt", "", "data.path: .* has no rows"),
        ("x.jsonl", "\n", "data.path: .* is empty"),
        ("x.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "data.path: .* holds a zero byte"),
        ("x.csv", GOOD.encode("utf-16"), "data.path: .* holds a zero byte"),
        ("x.csv", GOOD.encode() + b"caf\xe9,x\n", "data.path: .* byte 27,"),
        ("x.jsonl", b'{"anchor": "\xff"}', "data.path: .* byte 12,"),
        ("x.txt", b"a\n" * 2**20 + b"\xe2\x82", "data.path: .* byte 2097152,"),
        ("x.txt", b"a" * (2**20 - 1) + "€".encode() + b"\xff", "data.path: .* byte 1048578,"),
        ("x.txt.gz", b"ok\n\xff\n", "data.path: .* byte 3,"),
        ("x.csv", GOOD + "a,b,c\n", "data.path: .* has 3 fields in row 3 and 2 in its first line"),
        ("x.csv", GOOD + 'a,"b\nc,d\n', r"data.path: .* cannot be read at line 5 \(unexpected end"),
        ("x.csv", "anchor,anchor,positive\na,b,c\n", "data.path: .* has the column 'anchor' more than once"),
        ("x.csv", "text,id\na,1\n", "data.positive: no column 'positive' in .* text, id.* data.augment or data.label"),
        ("x.csv", "text,positive\na,b\n", "data.anchor: no column 'anchor' in .*; it has text, positive"),
        ("x.csv", "anchor,positive\na,a\nb, b\n", "data.positive: column 'positive' of .* repeats 'anchor'"),
        ("x.jsonl", '{"anchor": "a"', "data.path: .* has no JSON in line 1"),
        (
            "x.jsonl",
            '{"anchor": "a", "positive": "b"}\n["a"]\n',
            r"data.path: .* has '\[\"a\"\]' in line 2; each line must be a JSON object",
        ),
        (
            "x.jsonl",
            '{"anchor": "a", "positive": 3.5}',
            "data.path: row 1 has '3.5' in column 'positive', which is not",
        ),
        ("x.parquet", "PAR?", "data.path: .* is not a whole parquet file"),
        ("x.parquet.gz", "PAR?", "data.path: .* is not a whole parquet file"),
        ("x.xlsx", "x", "data.path: .* has an unknown format; .* .csv, .tsv, .jsonl, .parquet, .txt"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, content, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        read_pairs(write(tmp_path / name, content), augmented=".txt" in name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anchor": "text"}, "data.anchor: no column 'text' in .*; it has anchor, positive, y"),
        ({"positive": "pos"}, "data.positive: no column 'pos' in .*; it has anchor, positive, y"),
        ({"positive": "pos", "augmented": True}, "data.positive: no column 'pos'"),
        ({"positive": None}, "data.positive: no column"),
        ({"label": "topic"}, "data.label: no column 'topic' in .*; it has anchor, positive, y"),
        ({"negative": ["y", "no"]}, "data.negative: no column 'no'"),
        ({"label": "y"}, "data.label: every row of .* has the label '1'"),
        ({"label": "anchor", "positive": None}, "data.label: no two texts of .* have the same label"),
        ({"max_pairs": 0}, "data.max_pairs: 0 is not"),
        ({"anchor": 0, "positive": 3}, "data.positive: no column 3 in .*; it has 0, 1, 2"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path, settings, message):
    path = write(tmp_path / "x.csv", "anchor,positive,y\na,b,1\nc,d,1\n")
    with pytest.raises(InputError, match=f"^{message}"):
        read_pairs(path, **settings)


def test_column_numbers_are_for_files_without_names(tmp_path):
    with pytest.raises(InputError, match=r"^data\.anchor: 0 is a column number"):
        read_pairs(write_rows(tmp_path / "x.jsonl"), anchor=0, positive=1)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"^data\.path: no file at 'gone\.csv'"):
        read_pairs("gone.csv")
    with pytest.raises(InputError, match=r"^data\.path: .* is a folder"):
        read_pairs(str(tmp_path))
    with pytest.raises(InputError, match=r"^data\.path: no file"):
        fingerprint(str(tmp_path / "gone.csv"))


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(b"text " * 10_000, mtime=0)
    for content in (whole[:-20], b"not gzip"):
        (tmp_path / "x.txt.gz").write_bytes(content)
        with pytest.raises(InputError, match=r"^data\.path: .* is not a whole gzip file"):
            read_pairs(str(tmp_path / "x.txt.gz"), augmented=True)


def test_a_column_that_appears_late_is_an_error(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"anchor": "a"}\n{"anchor": "b", "positive": "c"}\n')
    with pytest.raises(
        InputError, match=r"^data\.path: .* has the column 'positive' in row 2, but not in its first row"
    ):
        read_pairs(path, augmented=True)


@pytest.mark.parametrize("form", ["csv", "txt", "jsonl"])
def test_a_very_long_line_is_read(tmp_path, form):
    long = "word " * 2_000_000 + "end"
    path = tmp_path / f"x.{form}"
    if form == "txt":
        write(path, f"{long}\nshort\n")
    else:
        write_rows(path, ("anchor",), [(long,), ("short",)])
    assert [pair.anchor for pair in read_pairs(str(path), augmented=True).pairs] == [long, "short"]


def test_a_name_beside_a_position_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\nc,d\n")
    with pytest.raises(InputError, match="data.positive: 'positive' is a name, but data.anchor=0 is a position"):
        read_pairs(str(path), anchor=0, augmented=True)
    assert len(read_pairs(str(path), anchor=0, positive=None, augmented=True)) == 2


def test_a_column_that_is_not_used_is_named(tmp_path, caplog):
    path = tmp_path / "x.csv"
    path.write_text("anchor,pos\nc,d\ne,f\n")
    with caplog.at_level(logging.INFO):
        read_pairs(str(path), augmented=True)
    assert "no column 'positive' (data.positive), so positives are made of the anchors; it also has pos" in caplog.text
