import csv
import gzip
import json
import pkgutil
import subprocess
import sys

import pytest

import embedllm.data
from embedllm.data.formats import SUFFIXES, file_format, open_table
from embedllm.errors import InputError

COLUMNS = {
    "text": ['a "quoted", text', "two\nlines", "lone\rreturn\tand tab", "separator\u2028inside", "ü" * 200_000, ""],
    "label": list("abcade"),
}
ENDINGS = [suffix + gz for suffix in SUFFIXES for gz in ("", ".gz")]


def write(path, columns):
    rows = list(zip(*columns.values(), strict=True))
    suffix = path.suffixes[0]
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif suffix == ".jsonl":
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
        path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([tuple(columns), *rows])
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def rows_of(path, wanted=frozenset(COLUMNS)):
    return list(open_table(path, wanted, "here").rows)


def as_rows(columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_importing_the_package_loads_nothing_heavy():
    modules = [f"embedllm.data.{module.name}" for module in pkgutil.iter_modules(embedllm.data.__path__)]
    code = f"import sys, {', '.join(modules)}; print({{'torch', 'mteb', 'datasets', 'pyarrow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "embedllm.data.formats" in modules
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_back_what_was_written_without_the_other_columns(tmp_path, ending):
    table = open_table(write(tmp_path / f"set{ending}", {**COLUMNS, "extra": list("uvwxyz")}), {*COLUMNS}, "here")
    assert table.columns == ("text", "label", "extra")
    assert list(table.rows) == as_rows(COLUMNS)


@pytest.mark.parametrize("ending", ENDINGS)
def test_wanted_columns_that_are_not_there_are_no_part_of_a_row(tmp_path, ending):
    assert rows_of(write(tmp_path / f"set{ending}", COLUMNS), {"label", "score"}) == as_rows(
        {"label": COLUMNS["label"]}
    )


def test_the_case_of_a_suffix_does_not_count(tmp_path):
    path = write(tmp_path / "set.csv.gz", COLUMNS)
    assert rows_of(path.rename(tmp_path / "SET.CSV.GZ")) == as_rows(COLUMNS)
    assert [file_format(name) for name in ("a.CSV", "a.jsonl.GZ", "a.txt", "csv", "a.csv.zip")] == [
        ".csv",
        ".jsonl",
        "",
        "",
        "",
    ]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, ending):
    path = write(tmp_path / f"set{ending}", COLUMNS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert rows_of(path) == as_rows(COLUMNS)


def test_an_empty_object_names_no_columns(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{}\n{"text": "x"}\n')
    table = open_table(path, {"text"}, "here")
    assert (table.columns, list(table.rows)) == (("text",), [{}, {"text": "x"}])


def test_a_value_that_a_json_object_lacks_is_missing_from_its_row(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"text": "x"}\n{"label": 3}\n')
    assert rows_of(path) == [{"text": "x"}, {"label": 3}]
    assert open_table(path, {"label"}, "here").columns == ("text",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\n \ntext,label\n\na,b\r\n\r\nc,d\n  \n"),
        ("a.tsv", "text\tlabel\n\na\tb\nc\td"),
        ("a.csv", "text,label\ra,b\rc,d\r"),
        ("a.jsonl", '\n{"text": "a", "label": "b"}\r\n \n{"text": "c", "label": "d"}'),
    ],
)
def test_blank_lines_are_no_rows_and_all_line_ends_are_known(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert rows_of(tmp_path / name) == [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]


def test_wanted_numbers_mean_no_header(tmp_path):
    (tmp_path / "a.csv").write_text("\na,b,c\n1,2,3\n")
    table = open_table(tmp_path / "a.csv", {2, 0}, "here")
    assert table.columns == (0, 1, 2)
    assert list(table.rows) == [{0: "a", 2: "c"}, {0: "1", 2: "3"}]


def test_a_column_that_nobody_wants_may_stand_twice(tmp_path):
    (tmp_path / "a.csv").write_text("text,,\na,,\n")
    assert rows_of(tmp_path / "a.csv") == [{"text": "a"}]


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text("text\na\nb,c\n")
    rows = open_table(tmp_path / "a.csv", {"text"}, "here").rows
    assert next(rows) == {"text": "a"}
    with pytest.raises(InputError, match="has 2 fields in row 2"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b" \n\n", "is empty"),
        ("a.csv", b"\xef\xbb\xbf", "is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.csv", b"text,label\nab\0,c\n", r"holds a zero byte \(at byte 13,"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\0"}\n', r"holds a zero byte \(at byte 24,"),
        ("a.csv", b"text,label\nab\xff,c\n", r"is not UTF-8 text \(found 0xff at byte 13,"),
        ("a.csv", b"\xef\xbb\xbftext\nab\xff\n", r"is not UTF-8 text \(found 0xff at byte 10,"),
        ("a.csv.gz", gzip.compress(b"x" * 99, mtime=0)[:-12], "ends in .gz and is not a whole gzip file"),
        ("a.csv.gz", b"text,label\n", "ends in .gz and is not a whole gzip file"),
        ("a.parquet.gz", b"PAR1", "ends in .gz and is not a whole gzip file"),
        ("a.csv", b"text,label\na,b,c\n", "has 3 fields in row 1 and 2 in its first line"),
        ("a.csv", b'text,label\n\n"a\nb",c\na\n', "has 1 fields in row 2 and 2 in its first line"),
        ("a.csv", b'text,label\n"a,b\nc,d\n', "cannot be read at line 3"),
        ("a.csv", b'text,label\n"a"b,c\n', "cannot be read at line 2"),
        ("a.csv", b"text,text\na,b\n", "has the column 'text' more than once"),
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "has no JSON in line 2"),
        ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}\n", "has no JSON in line 1"),
        ("a.jsonl", b"[" * 200_000, "has no JSON in line 1"),
        ("a.jsonl", b'["x"]\n', r"has '\[\"x\"\]' in line 1; each line must be a JSON object"),
        ("a.parquet", b"text,label\n", "is not a whole parquet file"),
        ("a.parquet", b"", "is not a whole parquet file"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^data\.path: 'typed' {message}") as caught:
        list(open_table(path, {*COLUMNS}, "data.path: 'typed'").rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".parquet", ".parquet.gz"])
def test_a_parquet_file_that_is_damaged_inside_is_refused(tmp_path, ending):
    path = write(tmp_path / "set.parquet", {"text": [f"text {number}" for number in range(1000)]})
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    (tmp_path / f"bad{ending}").write_bytes(gzip.compress(content, mtime=0) if ending.endswith(".gz") else content)
    with pytest.raises(InputError, match=r"^here is not a whole parquet file") as caught:
        rows_of(tmp_path / f"bad{ending}")
    assert "\n" not in str(caught.value)


def test_a_parquet_column_that_stands_twice_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"^here has the column 'text' more than once"):
        rows_of(tmp_path / "a.parquet")
