import gzip

import pytest

from embedllm.data.textfile import read_lines
from embedllm.errors import InputError


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_end_in_a_line_feed_only(tmp_path, name):
    lines = ["one\rand\r\n", "\n", "two\u2028three\x0bfour\x85\n", "last"]
    content = b"\xef\xbb\xbf" + "".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    assert list(read_lines(tmp_path / name, "here")) == lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\n" * 2**20 + b"a\0b\n", "holds a zero byte (at byte 3145729, from 0)"),
        (b"h\xffi\n" + b"ok\n" * 2**20 + b"\0", "holds a zero byte (at byte 3145732, from 0)"),
        (b"a" * (2**20 - 1) + "€".encode() + b"\xff", "is not UTF-8 text (found 0xff at byte 1048578, from 0)"),
        (b"a" * (2**20 - 1) + b"\xe2\x82", "is not UTF-8 text (found 0xe2 at byte 1048575, from 0)"),
        (b"a" * (2**20 - 1) + b"\xe2\x82x", "is not UTF-8 text (found 0xe2 at byte 1048575, from 0)"),
    ],
)
def test_a_byte_that_is_no_text_is_found_wherever_it_is(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_lines(tmp_path / "a.txt", "here"))
    assert str(caught.value).startswith(f"here {message}")


def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"^here cannot be read \(Is a directory\)$"):
        list(read_lines(tmp_path, "here"))
