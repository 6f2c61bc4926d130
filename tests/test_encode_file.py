"""``embedllm encode`` on files larger than memory: chunks, equal texts, stops, full disks."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from embedllm import Embedder
from embedllm.cli import main
from embedllm.data.survey import survey
from embedllm.encode_file import encode_file
from embedllm.partial_array import PartialArray

CHUNK = 8
LINES = [f"{word} {'and more ' * (i % 7)}" for i in range(25) for word in ("a cat", "", "the\u2028car", "sky\r")]
LINES += [f"number {i} " + "x" * i for i in range(20)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm.encode_file.CHUNK_ON_CPU", CHUNK)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_bytes("\n".join(LINES).encode() + b"\n")
    return path


@pytest.fixture
def encode(tiny_path: Path, tmp_path: Path, source: Path) -> Callable[..., int]:
    """Run the command on ``in.txt`` and the tiny model; return its exit code."""

    def call(*options: str, model: Path = tiny_path, out: str = "out.npy") -> int:
        return main(["encode", str(model), str(source), "-o", str(tmp_path / out), *options])

    return call


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, encode: Callable[..., int]) -> Callable[..., int]:
    """Run the command until ``error`` is raised when so many rows are about to be marked as done."""

    def call(rows: int, error: BaseException, *options: str) -> int:
        mark = PartialArray._mark

        def fails(self: PartialArray, done: int) -> None:
            if done >= rows:
                raise error
            mark(self, done)

        with monkeypatch.context() as patch:
            patch.setattr(PartialArray, "_mark", fails)
            return encode(*options)

    return call


class Counting:
    """Stands in for an embedder: the vector of a text is its length and its number among the texts encoded."""

    output_size = 2
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.encoded = 0

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(text)] for text in texts]

    def encode_rows(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], np.ndarray]]:
        for i, row in enumerate(rows):
            self.encoded += 1
            yield [i], np.array([[*row, self.encoded]], dtype=np.float32)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_chunks_change_no_vector_and_no_order(encode: Callable[..., int], tiny_path: Path, tmp_path: Path) -> None:
    assert encode() == 0
    vectors = np.load(tmp_path / "out.npy")
    np.testing.assert_allclose(vectors, Embedder.load(tiny_path).encode(LINES), atol=1e-6)
    assert left(tmp_path) == ["in.txt", "out.npy"]


@pytest.mark.parametrize("name", ["in.txt", "in.txt.gz"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\n\n", ["a", ""]),
        (b"\n", [""]),
        (b"a\r\nb", ["a\r", "b"]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        ("é\u2028\x0b\x85\n\n b".encode(), ["é\u2028\x0b\x85", "", " b"]),
    ],
)
def test_only_line_feeds_end_a_line(tmp_path: Path, name: str, content: bytes, lines: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = survey(path, "here")
    assert encode_file(Counting(), "key", found, tmp_path / "out.npy") == (len(lines), 2)
    assert np.load(tmp_path / "out.npy")[:, 0].tolist() == [len(line) for line in lines]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("rows", range(CHUNK, len(LINES) + CHUNK, 3 * CHUNK))
def test_a_stop_between_data_and_mark_ends_in_the_same_bytes(
    encode: Callable[..., int],
    stopped: Callable[..., int],
    tmp_path: Path,
    rows: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert encode(out="whole.npy") == 0
    assert stopped(min(rows, len(LINES)), KeyboardInterrupt()) == 130
    assert "interrupted; the same command goes on from here\n" in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()
    assert encode() == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert left(tmp_path) == ["in.txt", "out.npy", "whole.npy"]


@pytest.mark.slow
def test_kill_9_ends_in_the_same_bytes(
    encode: Callable[..., int], tiny_path: Path, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, sys, embedllm.encode_file\n"
        "from embedllm import Embedder\n"
        "from embedllm.cli import main\n"
        f"embedllm.encode_file.CHUNK_ON_CPU = {CHUNK}\n"
        "rows, calls = Embedder.encode_rows, []\n"
        "def killed(*args):\n"
        "    calls.append(args)\n"
        "    for batch in rows(*args):\n"
        "        yield batch\n"
        "        if len(calls) == 14: os.kill(os.getpid(), 9)\n"
        "Embedder.encode_rows = killed\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["encode", str(tiny_path), str(source), "-o", str(tmp_path / "out.npy")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / ".out.npy.partial.json").read_text())["done"] == 13 * CHUNK
    starts: list[int] = []
    filling = PartialArray.filling
    monkeypatch.setattr(PartialArray, "filling", lambda self, rows: starts.append(self.done) or filling(self, rows))
    assert encode() == 0
    assert starts[0] == 13 * CHUNK
    assert encode(out="whole.npy") == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert left(tmp_path) == ["in.txt", "out.npy", "whole.npy"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_done_is_not_encoded_again(
    encode: Callable[..., int], stopped: Callable[..., int], tmp_path: Path, dtype: str
) -> None:
    stopped(5 * CHUNK, KeyboardInterrupt(), "--dtype", dtype)
    partial = np.lib.format.open_memmap(tmp_path / ".out.npy.partial", mode="r+")
    partial[0] = 7
    partial.flush()
    assert encode("--dtype", dtype) == 0
    found = np.load(tmp_path / "out.npy")
    assert (found[0] == 7).all()
    assert (found.dtype, found.shape) == (np.dtype(dtype), (len(LINES), 32))
    assert (found[5 * CHUNK + LINES[5 * CHUNK :].index(LINES[0])] == 7).all()  # a copy of a row that was there
    assert not (found == 7).all()


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        (lambda source: source.write_bytes(source.read_bytes().replace(b"number 3", b"number 4")), [], "input"),
        (lambda source: None, ["--dtype", "float16"], "dtype"),
    ],
)
def test_what_belongs_to_others_starts_anew_and_says_so(
    encode: Callable[..., int],
    stopped: Callable[..., int],
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Path], object],
    options: list[str],
    named: str,
) -> None:
    stopped(5 * CHUNK, KeyboardInterrupt())
    change(source)
    assert encode(*options) == 0
    sentence = f"{tmp_path / 'out.npy'}: what is half written there is of another {named}, so it starts anew"
    assert sentence in caplog.messages
    assert encode(*options, out="whole.npy") == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("options", [{"template": "Other: {text}"}, {"normalize": False}, {"centre": True}])
def test_another_prompt_head_or_centring_is_another_model(
    encode: Callable[..., int],
    tiny_path: Path,
    tmp_path: Path,
    stopped: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    options: dict[str, object],
) -> None:
    stopped(5 * CHUNK, KeyboardInterrupt())
    other = Embedder.from_pretrained(str(tiny_path), template=str(options.get("template", "{text}")))
    if "normalize" in options:
        other.head.normalize = False
        other.head_config["normalize"] = False
    if "centre" in options:
        other.centre()
    other.save(tmp_path / "model")
    assert encode(model=tmp_path / "model") == 0
    assert any("is of another model or package version, so it starts anew" in message for message in caplog.messages)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), other.encode(LINES), atol=1e-6)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("damage", ["", "{", '{"done": 8}', "[]"])
def test_a_damaged_state_starts_anew(
    encode: Callable[..., int], stopped: Callable[..., int], tmp_path: Path, damage: str
) -> None:
    assert encode(out="whole.npy") == 0
    stopped(5 * CHUNK, KeyboardInterrupt())
    (tmp_path / ".out.npy.partial.json").write_text(damage)
    assert encode() == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_damaged_array_starts_anew(encode: Callable[..., int], stopped: Callable[..., int], tmp_path: Path) -> None:
    assert encode(out="whole.npy") == 0
    stopped(5 * CHUNK, KeyboardInterrupt())
    os.truncate(tmp_path / ".out.npy.partial", 1000)
    assert encode() == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_disk_that_is_full_at_the_start_keeps_the_old_output(
    encode: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "out.npy").write_bytes(b"old")
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert encode() == 1
    sentence = f"{tmp_path / 'out.npy'}: No space left on device; the array takes 1.54e-05 GB\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert left(tmp_path) == ["in.txt", "out.npy"]
    assert (tmp_path / "out.npy").read_bytes() == b"old"


def test_a_disk_that_fails_later_keeps_what_is_done(
    encode: Callable[..., int], stopped: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(out="whole.npy") == 0
    assert stopped(5 * CHUNK, OSError(errno.ENOSPC, "No space left on device")) == 1
    sentence = "No space left on device; 32 rows are done and stay, the same command goes on there\n"
    assert capsys.readouterr().err.endswith(f"{tmp_path / 'out.npy'}: {sentence}")
    assert json.loads((tmp_path / ".out.npy.partial.json").read_text())["done"] == 4 * CHUNK
    assert encode() == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_two_processes_do_not_write_the_same_file(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], encode: Callable[..., int]
) -> None:
    class Meanwhile(Counting):
        def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
            assert encode() == 2
            return super().tokenize(texts)

    encode_file(Meanwhile(), "key", survey(source, "here"), tmp_path / "out.npy", chunk=1000)
    assert f"--output: another process writes {str(tmp_path / 'out.npy')!r}" in capsys.readouterr().err


def test_equal_texts_are_encoded_once_in_all_chunks(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(["a", "b", "a", "c", "b", "a"] * 50))
    embedder = Counting()
    encode_file(embedder, "key", survey(tmp_path / "in.txt", "here"), tmp_path / "out.npy", chunk=4)
    assert embedder.encoded == 3
    numbers = np.load(tmp_path / "out.npy")[:, 1].tolist()
    assert numbers == [1, 2, 1, 3, 2, 1] * 50


def test_a_text_that_is_forgotten_is_encoded_again_and_once_a_chunk(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(["a", "b", "a", "b"] * 5))
    embedder = Counting()
    found = survey(tmp_path / "in.txt", "here")
    encode_file(embedder, "key", found, tmp_path / "out.npy", chunk=4, remembered=1)
    assert embedder.encoded == 1 + 5
    assert np.load(tmp_path / "out.npy")[:, 1].tolist() == [1, 2, 1, 2, 1, 3, 1, 3, 1, 4, 1, 4, 1, 5, 1, 5, 1, 6, 1, 6]


def test_memory_does_not_grow_with_the_number_of_lines(tmp_path: Path) -> None:
    def peak(lines: int) -> int:
        (tmp_path / "in.txt").write_text("\n".join(f"{i:01000}" for i in range(lines)))
        found = survey(tmp_path / "in.txt", "here")
        tracemalloc.start()
        encode_file(Counting(), "key", found, tmp_path / "out.npy", chunk=100, remembered=100)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(200)  # imports
    few, many = peak(500), peak(5_000)  # 4.5 MB of text more, all of which would be kept
    assert many < few + 1_000_000


def test_a_chunk_of_long_lines_has_fewer_of_them(tmp_path: Path) -> None:
    held: list[int] = []

    class Watching(Counting):
        def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
            held.append(sum(map(len, texts)))
            return super().tokenize(texts)

    (tmp_path / "in.txt").write_text("\n".join(f"{i:02000}" for i in range(100)))
    encode_file(Watching(), "key", survey(tmp_path / "in.txt", "here"), tmp_path / "out.npy", chunk=50)
    assert max(held) <= 50 * 256 + 2000


def test_a_file_that_changes_meanwhile_is_refused(source: Path, tmp_path: Path) -> None:
    found = survey(source, "here")
    with source.open("a") as file:
        file.write("one more")
    with pytest.raises(ValueError, match=r"^here was changed while it was read$"):
        encode_file(Counting(), "key", found, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_a_pipe_is_refused(tmp_path: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["encode", str(tiny_path), str(tmp_path / "pipe"), "-o", str(tmp_path / "out.npy")]) == 2
    assert "is no regular file, and it is read twice; write it to a file first" in capsys.readouterr().err
