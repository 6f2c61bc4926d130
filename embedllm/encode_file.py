"""Encode a file of texts, one a line, into a ``.npy`` file; neither has to fit into memory, and a stop loses a chunk.

The file is read twice: once to count and check its lines, once to encode them, a chunk of lines at a time. Within a
chunk texts are sorted by length. A chunk is as large as it must be for batches without much padding, and no larger: it
is what is lost when the process is killed. Its borders, and what is encoded in it, depend on the file alone, so that
a file that was encoded in two goes has the same bytes.

Legend: N lines, D width of a vector, B lines of a chunk.
"""

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from embedllm.data.survey import Survey
from embedllm.data.textfile import read_lines
from embedllm.embedder import Embedder
from embedllm.partial_array import Rows, partial_array
from embedllm.pieces import pieces

CHUNK_ON_CPU, CHUNK = 8_192, 131_072
"""Lines; for titles of 12 tokens 4 % of a batch is padding on a CPU, and 7 % elsewhere, where batches are larger."""
_CHARACTERS = 256  # a line, above which a chunk has fewer lines
_REMEMBERED = 2**20  # texts; 150 MB

Numbers = npt.NDArray[np.int64]


class FirstRows:
    """Remember where a text stood first, for the first so many texts; what is forgotten is encoded again.

    Args:
        limit: texts that are remembered.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._rows: dict[bytes, int] = {}
        self._limit = limit

    def of(self, texts: Sequence[str], start: int) -> Numbers:
        """Return the row, (B,), that has the vector of each text: its own where the text is new.

        Args:
            texts: the B texts of the next chunk.
            start: row of the first of them.
        """
        new: dict[bytes, int] = {}
        found = []
        for row, text in enumerate(texts, start):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            known = self._rows.get(digest)
            found.append(new.setdefault(digest, row) if known is None else known)
        self._rows.update(islice(new.items(), self._limit - len(self._rows)))
        return np.array(found)


def encode_file(
    embedder: Embedder,
    key: str,
    source: Survey,
    output: Path,
    *,
    dtype: npt.DTypeLike = np.float32,
    chunk: int | None = None,
    remembered: int = _REMEMBERED,
) -> tuple[int, int]:
    """Write the vectors of the lines of a file into ``output``, and go on with what an earlier call left there.

    Args:
        embedder: makes the vectors.
        key: stands for all that decides the vector of a text; see :func:`embedllm.scan.embedder_key.embedder_key`.
        source: the file.
        output: of shape (N, D); row i is line i.
        dtype: of the vectors on disk.
        chunk: lines of a chunk; None: :data:`CHUNK_ON_CPU` or :data:`CHUNK`.
        remembered: texts that are encoded once though they stand in several chunks.

    Returns:
        N and D.

    Raises:
        InputError: the file changes meanwhile, or another process writes ``output``.
        OSError: the disk is full, or fails in another way; what is done stays there.
    """
    chunk = chunk or (CHUNK_ON_CPU if embedder.device.type == "cpu" else CHUNK)
    shape = (source.lines, embedder.output_size)
    facts = {
        "input": source.sha256,
        "model or package version": key,
        "dtype": np.dtype(dtype).name,
        "chunk size": [chunk, remembered],
    }
    first_rows = FirstRows(remembered)
    lines = (line.removesuffix("\n") for line in islice(read_lines(source.path, source.where), source.lines))
    with (
        partial_array(output, shape, dtype, facts) as array,
        tqdm(total=source.lines, initial=array.done, unit="text", desc="encode") as bar,
    ):
        start = 0
        for texts in pieces(lines, chunk, chunk * _CHARACTERS):
            rows = first_rows.of(texts, start)
            own = np.arange(start, start + len(texts))
            start += len(texts)
            if start > array.done:
                with array.filling(len(texts)) as vectors:
                    _fill(vectors, embedder, texts, rows, own, bar)
        source.check(start)
    return shape


def _fill(vectors: Rows, embedder: Embedder, texts: Sequence[str], rows: Numbers, own: Numbers, bar: tqdm) -> None:
    """Set the vectors of the lines ``own``, (B,), each of which ``rows`` says where to take from."""
    new = np.flatnonzero(rows == own)
    for batch, found in embedder.encode_rows(embedder.tokenize([texts[i] for i in new.tolist()])):
        vectors[own[new[batch]]] = found
        bar.update(len(batch))
    old = np.flatnonzero(rows != own)
    vectors[own[old]] = vectors[rows[old]]
    bar.update(len(old))
