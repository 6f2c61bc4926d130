"""An array on disk that is filled from its first row to its last, and goes on after its writer was killed.

While ``OUT.npy`` is written there are, beside it, ``.OUT.npy.partial`` (the whole array, mapped into memory) and
``.OUT.npy.partial.json`` (what it belongs to, and how many rows are done). A row is said to be done only after it is on
the disk. The space is reserved at the start: a full disk is an error then, and not a SIGBUS at some later row.
"""

import errno
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap

from embedllm.errors import InputError

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.floating[Any]]


class PartialArray:
    """The array that :func:`partial_array` opens."""

    def __init__(self, output: Path, shape: tuple[int, int], dtype: npt.DTypeLike, facts: Mapping[str, Any]) -> None:
        self.output, self.shape, self.dtype, self.facts = output, shape, np.dtype(dtype), dict(facts)
        self.path = output.with_name(f".{output.name}.partial")
        self.state = output.with_name(f"{self.path.name}.json")
        self.done = 0
        """Rows that are on the disk; set them, from the first on, by :meth:`filling`."""

    def open(self) -> None:
        """Go on with what is there, if it belongs to the same facts; else start anew, and say so."""
        misfit = self._misfit()
        if misfit is None:
            log.info("%s: %s of %s rows are there already", self.output, f"{self.done:,}", f"{self.shape[0]:,}")
            return
        if misfit:
            log.warning("%s: what is half written there %s, so it starts anew", self.output, misfit)
        self.done = 0
        self.state.unlink(missing_ok=True)
        self._create()
        self._mark(0)

    @contextmanager
    def filling(self, rows: int) -> Iterator[Rows]:
        """Yield the array, mapped, for its next ``rows`` rows; they are done when the block ends without an error."""
        array = open_memmap(self.path, mode="r+")
        yield np.asarray(array)  # not a memmap, which takes microseconds longer to index
        try:
            array.flush()
            self._mark(self.done + rows)
        except OSError as error:
            sentence = (
                f"{error.strerror or error}; {self.done:,} rows are done and stay, the same command goes on there"
            )
            raise OSError(error.errno or errno.EIO, sentence) from error

    def finish(self) -> None:
        """Move the array, all of whose rows are done, into place."""
        self.path.replace(self.output)
        self.state.unlink()

    def _misfit(self) -> str | None:
        """Return what is wrong with what is there, "" if there is nothing; None: nothing is wrong."""
        if not (self.path.exists() and self.state.exists()):
            return ""
        try:
            found = json.loads(self.state.read_text(encoding="utf-8"))
            array = open_memmap(self.path, mode="r")
            self.done = int(found["done"])
            facts = dict(found["facts"])
        except (OSError, ValueError, TypeError, KeyError):
            return "is damaged"
        other = [name for name in self.facts | facts if facts.get(name) != self.facts.get(name)]
        if other:
            return f"is of {' and '.join(f'another {name}' for name in other)}"
        return None if (array.shape, array.dtype) == (self.shape, self.dtype) else "is damaged"

    def _create(self) -> None:
        size = self.shape[0] * self.shape[1] * self.dtype.itemsize
        try:
            open_memmap(self.path, mode="w+", dtype=self.dtype, shape=self.shape)
            if hasattr(os, "posix_fallocate"):
                with self.path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            sentence = f"{error.strerror or error}; the array takes {size / 1e9:.3g} GB"
            raise OSError(error.errno or errno.EIO, sentence, str(self.output)) from error

    def _mark(self, done: int) -> None:
        """Write the state in one stroke; what it says must be on the disk already."""
        temporary = self.state.with_name(f"{self.state.name}.new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"facts": self.facts, "done": done}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.state)
        self.done = done


@contextmanager
def partial_array(
    output: Path, shape: tuple[int, int], dtype: npt.DTypeLike, facts: Mapping[str, Any]
) -> Iterator[PartialArray]:
    """Open an array that is written to ``output``, to which it is moved if the block ends without an error.

    Args:
        output: the ``.npy`` file; one that is there stays until the new one is whole.
        shape: rows and columns.
        dtype: of the numbers.
        facts: all that decides the rows, by names that make a sentence ("is of another input").

    Raises:
        InputError: another process writes to ``output``.
        OSError: the disk is full, or fails in another way; what is done stays there.
    """
    array = PartialArray(output, shape, dtype, facts)
    lock = FileLock(array.path.with_name(f"{array.path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"--output: another process writes {str(output)!r}; wait for it or stop it") from error
    try:
        array.open()
        yield array
        array.finish()
    except OSError as error:
        error.filename = str(output)
        raise
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
