"""What is kept of a task besides its score, on disk: named arrays in one npz file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class StoredArrays:
    """A dataclass whose fields are arrays."""

    documents: npt.NDArray[np.str_]
    """(N,) digests of the texts: what makes two scores comparable."""

    def save(self, path: Path) -> None:
        """Write an npz file in one stroke; it holds no pickle."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **vars(self))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OSError, ValueError, KeyError: the file is missing or damaged.
        """
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def digests(documents: Iterable[tuple[str, ...]]) -> npt.NDArray[np.str_]:
    """Return a short digest of each document, (N,); a document is one text, or the texts of a pair."""
    import hashlib

    joined = ("\0".join(texts).encode("utf-8", "surrogatepass") for texts in documents)
    return np.array([hashlib.sha256(text).hexdigest()[:16] for text in joined])
