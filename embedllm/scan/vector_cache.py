"""Vectors of texts on disk, so that none is computed twice: one file for each variant of a model.

Processes may read and write at the same time. What is damaged counts as unknown and is written again.
"""

import hashlib
import logging
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from embedllm.errors import InputError
from embedllm.model_cache import cache_folder
from embedllm.scan.vector_file import Vectors, append_records, find_rows, read_records

log = logging.getLogger(__name__)

LIMIT_GB = 4.0


class VectorCache:
    """Vectors by variant and text.

    Args:
        folder: of the files; None: ``vectors`` in the folder of :func:`embedllm.model_cache.cache_folder`.
        limit_gb: size above which the files that were used longest ago are removed, in 10^9 bytes; None:
            ``$EMBEDLLM_CACHE_LIMIT_GB``, else 4.
    """

    def __init__(self, folder: Path | None = None, limit_gb: float | None = None) -> None:
        self.folder = cache_folder() / "vectors" if folder is None else folder
        self.limit_gb = _limit_of_the_user() if limit_gb is None else limit_gb

    def get(self, variant: str, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors, (D,) float32 each, of those of ``texts`` that are known.

        Args:
            variant: a file name that stands for all that decides a vector besides its text.
            texts: in any order.
        """
        path = self._path(variant)
        records = read_records(path)
        if records is None:
            return {}
        with suppress(OSError):  # removed meanwhile, or the cache of another user
            os.utime(path)
        digests = {_digest(text): text for text in texts}
        rows = find_rows(records, digests)
        vectors = np.ascontiguousarray(records["vector"][list(rows.values())])
        return {digests[digest]: vector for digest, vector in zip(rows, vectors, strict=True)}

    def put(self, variant: str, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep the vectors of ``texts``; a text that is known keeps the vector it has.

        Args:
            variant: as for :meth:`get`.
            texts: N texts.
            vectors: (N, D) float32.

        Raises:
            InputError: the folder cannot be written.
        """
        new = {_digest(text): vector for text, vector in zip(texts, vectors, strict=True)}
        path = self._path(variant)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                append_records(path, new, vectors.shape[1])
                self._remove_oldest(path)
        except OSError as error:
            raise InputError(
                f"EMBEDLLM_CACHE: cannot write {str(path)!r} ({error}); set it to a folder that can be written"
            ) from error

    def _path(self, variant: str) -> Path:
        return self.folder / f"{variant}.vectors"

    def _remove_oldest(self, kept: Path) -> None:
        """Remove the files that were used longest ago, but never ``kept``, until the others fit into the limit."""
        files = {path: path.stat() for path in self.folder.glob("*.vectors")}
        size = sum(stat.st_size for stat in files.values())
        for path in sorted(files, key=lambda path: files[path].st_mtime_ns):
            if size <= 1e9 * self.limit_gb:
                return
            if path != kept:
                log.info("vectors take more than %g GB (EMBEDLLM_CACHE_LIMIT_GB): remove %s", self.limit_gb, path.name)
                path.unlink()
                size -= files[path].st_size


def _limit_of_the_user() -> float:
    typed = os.environ.get("EMBEDLLM_CACHE_LIMIT_GB") or str(LIMIT_GB)
    try:
        limit = float(typed)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise InputError(f"EMBEDLLM_CACHE_LIMIT_GB: {typed!r} is not a number of gigabytes above 0")
    return limit


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
