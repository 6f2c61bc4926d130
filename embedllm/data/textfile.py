"""Files, plain or gzipped: opens them, reads lines of UTF-8, and says in one sentence what is wrong with them.

``where`` is what messages begin with: the setting and the file as typed (``data.path: 'foo.csv'``).
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from embedllm.errors import InputError

_CHUNK = 1 << 20  # bytes


def read_lines(path: Path, where: str, newline: str = "\n") -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file with their ends, without a byte order mark.

    Args:
        path: the file; a name that ends in ``.gz`` is decompressed.
        where: what messages begin with.
        newline: as for :func:`open`. By default lines end in ``\n`` only: texts may hold ``\r`` and U+2028.

    Raises:
        InputError: on the line that has it, if the file is damaged or holds what is no text.
    """
    with open_bytes(path, where) as file:
        try:
            for line in io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline):
                if "\0" in line:
                    raise not_text(path, where)
                yield line
        except UnicodeDecodeError as error:
            raise not_text(path, where) from error


@contextmanager
def open_bytes(path: Path, where: str) -> Iterator[BinaryIO]:
    """Open a file to read bytes; what goes wrong while it is open becomes an InputError.

    Args:
        path: the file; a name that ends in ``.gz`` is decompressed.
        where: what messages begin with.
    """
    try:
        with cast(BinaryIO, gzip.open(path)) if is_gzipped(path) else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{where} ends in .gz and is not a whole gzip file ({error})") from error
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror or error})") from error


def is_gzipped(path: Path) -> bool:
    """Return whether the file's name says that it is compressed."""
    return path.suffix.lower() == ".gz"


def not_text(path: Path, where: str) -> InputError:
    """Return what is wrong with a file that cannot be decoded; in UTF-16 the zero bytes say more than the others."""
    zero = _first_zero(path, where)
    if zero is not None:
        return InputError(f"{where} holds a zero byte (at byte {zero}, from 0); it must be text in UTF-8")
    invalid = _first_invalid(path, where)
    if invalid is not None:
        position, value = invalid
        return InputError(f"{where} is not UTF-8 text (found {value:#04x} at byte {position}, from 0)")
    return InputError(f"{where} was changed while it was read")


def _first_zero(path: Path, where: str) -> int | None:
    done = 0  # bytes before this chunk
    with open_bytes(path, where) as file:
        while chunk := file.read(_CHUNK):
            if b"\0" in chunk:
                return done + chunk.index(0)
            done += len(chunk)
    return None


def _first_invalid(path: Path, where: str) -> tuple[int, int] | None:
    """Return the position of the first byte that is not UTF-8, and its value."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0  # bytes before this chunk
    chunk = b"."
    with open_bytes(path, where) as file:
        while chunk:
            chunk = file.read(_CHUNK)
            held = len(decoder.getstate()[0])  # start of a character that the last chunk cut
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return done - held + error.start, error.object[error.start]
            done += len(chunk)
    return None
