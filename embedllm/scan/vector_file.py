"""The file of a variant's vectors: a header, and records of one size that are only ever appended.

A record is the digest of a text, a checksum and a vector. A reader takes the whole records whose checksum is right, so
a writer at work, or one that was killed, does not disturb it. Writers must hold a lock.

Legend: D width of a vector.
"""

import logging
import os
import struct
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

DIGEST_BYTES = 32
_HEADER = struct.Struct("<16sII")  # magic and version, D, checksum of D
_MAGIC = b"embedllm-vector1"


def _header(width: int) -> bytes:
    return _HEADER.pack(_MAGIC, width, zlib.crc32(str(width).encode()))


def _record(width: int) -> np.dtype[Any]:
    return np.dtype([("digest", f"V{DIGEST_BYTES}"), ("checksum", "<u4"), ("vector", "<f4", (width,))])


def read_records(path: Path) -> npt.NDArray[Any] | None:
    """Map the whole records of a file into memory; None if there is no file, or if its header is damaged."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            width = int.from_bytes(header[len(_MAGIC) :][:4], "little")
            if header != _header(width):
                log.warning("%s is damaged, its vectors are computed again", path)
                return None
            record = _record(width)
            count = (os.fstat(file.fileno()).st_size - _HEADER.size) // record.itemsize
            if count == 0:
                return np.empty(0, record)
            return np.memmap(file, record, "r", offset=_HEADER.size, shape=(count,))
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s), its vectors are computed again", path, error.strerror)
        return None


def find_rows(records: npt.NDArray[Any], wanted: Collection[bytes]) -> dict[bytes, int]:
    """Return the rows of the undamaged records of ``wanted``, by digest."""
    digests = records["digest"].tobytes()
    checksums, vectors = records["checksum"].tolist(), records["vector"]
    rows = ((digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES], row) for row in range(len(records)))
    return {
        digest: row for digest, row in rows if digest in wanted and checksums[row] == _checksum(digest, vectors[row])
    }


def append_records(path: Path, new: Mapping[bytes, Vectors], width: int) -> None:
    """Add what a file does not hold yet; a file that is damaged, or of another width, is made anew in one stroke."""
    records = read_records(path)
    if records is None or records.dtype != _record(width):
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(_header(width) + _packed(new, width))
        temporary.replace(path)
        return
    known = find_rows(records, new)
    os.truncate(path, _HEADER.size + records.nbytes)  # a killed writer may have left a part of a record
    with path.open("ab") as file:
        file.write(_packed({digest: vector for digest, vector in new.items() if digest not in known}, width))


def _packed(vectors: Mapping[bytes, Vectors], width: int) -> bytes:
    records = np.empty(len(vectors), _record(width))
    for row, (digest, vector) in enumerate(vectors.items()):
        records[row] = (digest, _checksum(digest, np.asarray(vector, "<f4")), vector)
    return records.tobytes()


def _checksum(digest: bytes, vector: Vectors) -> int:
    return zlib.crc32(vector.tobytes(), zlib.crc32(digest))
