"""What is known of a file of lines before its lines are used: that it is text, how many there are, and their digest."""

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from embedllm.data.textfile import not_text, open_bytes
from embedllm.errors import InputError

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Survey:
    """A file of lines that was read once, whole, and is to be read again."""

    path: Path
    where: str
    """What messages begin with."""
    lines: int
    sha256: str
    """Of its bytes, decompressed, in hex."""
    stamp: tuple[int, int]
    """Its size in bytes and the time of its last change in ns."""

    def check(self, lines: int) -> None:
        """Raise if the file is no longer what it was.

        Args:
            lines: that were found when it was read again.
        """
        if lines != self.lines or _stamp(self.path) != self.stamp:
            raise InputError(f"{self.where} was changed while it was read")


def survey(path: Path, where: str) -> Survey:
    """Read a file of lines to count them, and to see that it is text; a bar shows if it takes long.

    Args:
        path: the file; a name that ends in ``.gz`` is decompressed.
        where: what messages begin with.

    Raises:
        InputError: there is no line in it, it holds what is no text, or it cannot be read twice.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{where} is no regular file, and it is read twice; write it to a file first")
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    digest = hashlib.sha256()
    ends, last = 0, ""
    with open_bytes(path, where) as file, tqdm(desc="count lines", unit="B", unit_scale=True, delay=3) as bar:
        stamp = _stamp(path)
        try:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                text = decoder.decode(chunk)
                if "\0" in text:
                    raise not_text(path, where)
                ends, last = ends + text.count("\n"), text[-1:] or last
                bar.update(len(chunk))
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise not_text(path, where) from error
    if not last:
        raise InputError(f"{where} is empty")
    return Survey(path, where, ends + (last != "\n"), digest.hexdigest(), stamp)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
