"""Vectors on disk: found again, by other processes too, whatever happened to the files."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from embedllm.errors import InputError
from embedllm.scan.vector_cache import VectorCache

WIDTH = 5
RECORD = 32 + 4 + 4 * WIDTH
HEADER = 24


def vectors_of(texts: Sequence[str], width: int = WIDTH) -> npt.NDArray[np.float32]:
    """A vector that its text decides."""
    numbers = [np.frombuffer(text.encode().ljust(8, b"\0")[:8], np.uint8).sum() for text in texts]
    return np.outer(numbers, np.linspace(0.1, 1, width)).astype(np.float32)


def assert_known(cache: VectorCache, texts: Sequence[str], variant: str = "v") -> None:
    known = cache.get(variant, texts)
    assert set(known) == set(texts)
    for text, vector in zip(texts, vectors_of(texts), strict=True):
        assert vector.dtype == np.float32
        assert np.array_equal(known[text], vector)


def stored(folder: Path, *texts: str) -> VectorCache:
    cache = VectorCache(folder)
    cache.put("v", texts, vectors_of(texts))
    return cache


def test_what_was_put_is_found_and_nothing_else(tmp_path: Path) -> None:
    texts = ["a", "", "ü\n", "\udcff", "a "]
    cache = VectorCache(tmp_path)
    assert cache.get("v", texts) == {}
    numbers = np.arange(5 * WIDTH, dtype=np.float32).reshape(5, WIDTH)
    cache.put("v", texts, numbers)
    known = VectorCache(tmp_path).get("v", ["b", *reversed(texts)])
    assert list(np.stack([known[text] for text in texts]).ravel()) == list(range(5 * WIDTH))
    assert "b" not in known
    assert cache.get("w", texts) == {}


def test_texts_are_added_in_any_number_of_strokes_and_stored_once(tmp_path: Path) -> None:
    cache = stored(tmp_path, "a", "b", "a")
    cache.put("v", ["b", "c"], vectors_of(["b", "c"]))
    cache.put("v", ["a"], vectors_of(["a"]))
    assert_known(cache, ["a", "b", "c"])
    assert (tmp_path / "v.vectors").stat().st_size == HEADER + 3 * RECORD


def test_no_texts_are_no_trouble(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.put("v", [], np.empty((0, WIDTH), np.float32))
    assert cache.get("v", ["a"]) == {}
    cache.put("v", ["a"], vectors_of(["a"]))
    assert_known(cache, ["a"])
    assert cache.get("v", []) == {}


@pytest.mark.parametrize("kept", range(HEADER, HEADER + 2 * RECORD, 7))
def test_a_writer_that_was_killed_loses_at_most_what_it_wrote(tmp_path: Path, kept: int) -> None:
    cache = stored(tmp_path, "a", "b")
    path = tmp_path / "v.vectors"
    path.write_bytes(path.read_bytes()[:kept])
    whole = (kept - HEADER) // RECORD
    assert len(cache.get("v", ["a", "b"])) == whole
    cache.put("v", ["c"], vectors_of(["c"]))
    assert_known(cache, [*["a", "b"][:whole], "c"])


@pytest.mark.parametrize("byte", [HEADER + 3, HEADER + 33, HEADER + 40, HEADER + RECORD - 1])
def test_a_damaged_record_is_unknown_and_written_again(tmp_path: Path, byte: int) -> None:
    cache = stored(tmp_path, "a", "b")
    path = tmp_path / "v.vectors"
    content = bytearray(path.read_bytes())
    content[byte] ^= 4
    path.write_bytes(content)
    assert set(cache.get("v", ["a", "b"])) == {"b"}
    cache.put("v", ["a"], vectors_of(["a"]))
    assert_known(cache, ["a", "b"])


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 500])
def test_a_file_with_a_damaged_header_is_made_anew(tmp_path: Path, content: bytes) -> None:
    cache = stored(tmp_path, "a")
    (tmp_path / "v.vectors").write_bytes(content)
    assert cache.get("v", ["a"]) == {}
    cache.put("v", ["b"], vectors_of(["b"]))
    assert_known(cache, ["b"])


@pytest.mark.parametrize("byte", range(HEADER))
def test_no_byte_of_the_header_can_be_wrong_unseen(tmp_path: Path, byte: int) -> None:
    cache = stored(tmp_path, "a")
    path = tmp_path / "v.vectors"
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    assert cache.get("v", ["a"]) == {}


def test_vectors_of_another_width_replace_those_that_are_there(tmp_path: Path) -> None:
    cache = stored(tmp_path, "a")
    cache.put("v", ["b"], vectors_of(["b"], 7))
    assert cache.get("v", ["a"]) == {}
    assert cache.get("v", ["b"])["b"].shape == (7,)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
from embedllm.scan.vector_cache import VectorCache
cache = VectorCache(Path(sys.argv[1]))
for i in range(40):
    text = f"{sys.argv[2]}-{i}"
    known = cache.get("v", [f"{name}-{j}" for name in "ab" for j in range(40)])
    assert all(float(vector[0]) == int(text.split("-")[1]) for text, vector in known.items())
    cache.put("v", [text], np.full((1, 3), i, np.float32))
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    known = VectorCache(tmp_path).get("v", [f"{name}-{i}" for name in "ab" for i in range(40)])
    assert {text: float(vector[2]) for text, vector in known.items()} == {
        f"{n}-{i}": i for n in "ab" for i in range(40)
    }


def test_what_was_used_longest_ago_is_removed_first(tmp_path: Path) -> None:
    size = HEADER + 10 * RECORD
    texts = [str(i) for i in range(10)]
    cache = VectorCache(tmp_path, limit_gb=3.5 * size / 1e9)
    for variant in ("a", "b", "c"):
        cache.put(variant, texts, vectors_of(texts))
    assert_known(cache, texts, "a")  # now b is the oldest
    cache.put("d", texts, vectors_of(texts))
    assert {path.stem for path in tmp_path.glob("*.vectors")} == {"a", "c", "d"}


def test_what_was_just_written_stays_even_if_it_is_too_large(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, limit_gb=1e-9)
    for variant in ("a", "b"):
        cache.put(variant, ["x"], vectors_of(["x"]))
    assert_known(cache, ["x"], "b")
    assert cache.get("a", ["x"]) == {}


def test_the_limit_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VectorCache(tmp_path).limit_gb == 4
    monkeypatch.setenv("EMBEDLLM_CACHE_LIMIT_GB", "0.5")
    assert VectorCache(tmp_path).limit_gb == 0.5
    for wrong in ("0", "-1", "much", "nan"):
        monkeypatch.setenv("EMBEDLLM_CACHE_LIMIT_GB", wrong)
        with pytest.raises(InputError, match=f"EMBEDLLM_CACHE_LIMIT_GB: '{wrong}'"):
            VectorCache(tmp_path)


def test_the_folder_is_in_the_cache_of_the_user(model_cache: Path) -> None:
    assert VectorCache().folder == model_cache / "vectors"


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="EMBEDLLM_CACHE"):
        VectorCache(tmp_path / "file").put("v", ["a"], vectors_of(["a"]))
