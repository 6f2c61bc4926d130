import hashlib
import json

import pytest

from embedllm.errors import InputError
from embedllm.eval.local_files import read_local
from embedllm.eval.specs import parse_specs


def read(spec):
    (parsed,) = parse_specs([spec])
    return read_local(parsed, parsed.path)


def test_columns_choose_the_kind_unless_a_prefix_does(topics, pairs):
    assert read(str(topics))[0].name == "clustering"
    assert read(f"classification:{topics}")[0].name == "classification"
    assert read(str(pairs))[0].name == "sts"


def test_the_digest_is_that_of_the_file(topics):
    assert read(str(topics))[1].digest == hashlib.sha256(topics.read_bytes()).hexdigest()


def test_other_columns_are_ignored(write_csv):
    path = write_csv([("id", "label", "note", "text"), (1, "x", "", "a"), (2, "y", "", "b")])
    assert read(str(path))[1].columns == {"text": ["a", "b"], "label": ["x", "y"]}


@pytest.mark.parametrize(
    ("prefix", "rows", "message"),
    [
        (
            "",
            [("body", "class"), ("a", "b")],
            r"has the columns \['body', 'class'\]; it needs text, label or sentence1",
        ),
        ("sts:", [("text", "label"), ("a", "b")], "lacks the columns sentence1, sentence2, score that sts needs"),
        ("clustering:", [("text", "topic"), ("a", "b")], r"lacks the column label .* has \['text', 'topic'\]"),
        ("", [("text", "label")], "has no rows"),
    ],
)
def test_a_file_of_no_use_is_refused(write_csv, prefix, rows, message):
    path = write_csv(rows)
    with pytest.raises(InputError, match=rf"eval\.tasks: '{prefix}{path}' {message}"):
        read(f"{prefix}{path}")


def test_a_value_that_a_json_object_lacks_is_an_empty_one(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"text": "x"}\n{"label": 3}\n')
    with pytest.raises(InputError, match=r"empty label in 1 of 2 rows \(the first is row 1\)"):
        read(str(path))
    path.write_text('{"label": 1}\n\n{"label": 3, "text": "y"}\n{"other": 0}\n')
    with pytest.raises(InputError, match=r"empty label in 1 of 3 rows \(the first is row 3\)"):
        read(str(path))


def test_other_columns_of_some_objects_are_ignored(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"text": "x", "label": 1}\n{"text": "y", "label": 2, "score": 3}\n')
    kind, data = read(str(path))
    assert (kind.name, data.columns) == ("clustering", {"text": ["x", "y"], "label": ["1", "2"]})


def test_a_broken_file_is_named_as_typed(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("text,label\na,b,c\n")
    with pytest.raises(InputError, match=rf"^eval\.tasks: 'classification:{path}' has 3 fields in row 1"):
        read(f"classification:{path}")


def test_the_formats_agree(topics, tmp_path):
    columns = read(str(topics))[1].columns
    path = tmp_path / "topics.jsonl"
    rows = zip(columns["text"], columns["label"], strict=True)
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    assert read(str(path))[1].columns == columns


def test_half_a_surrogate_pair_is_named(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text('{"text": "\\ud800 x", "label": "a"}\n{"text": "y", "label": "b"}\n')
    with pytest.raises(InputError, match="half of a surrogate pair"):
        read(str(path))
