"""When two texts are "the same": normal form, shingles, and MinHash to find near ones among many.

MinHash (Broder, 1997) with banding finds candidates; each is then held against the true Jaccard similarity, so that
chance lets a pair through at most, and never takes a pair that is unlike.
"""

import itertools
import re
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HASHES, _MOST_ROWS = 125, 5
_MISSED = 1e-4
"""Share of the pairs just at the threshold that may be missed."""
SHINGLE = 5  # characters
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def normalised(text: str) -> str:
    """Return the text case-folded, without punctuation, with single spaces."""
    return " ".join(re.sub(r"[^\w\s]|_", " ", text.casefold()).split())


def words(text: str) -> list[str]:
    """Return the words of a text; in scripts that put no spaces between words, each letter is one."""
    return _WORD.findall(text)


def cut_before(text: str, word: int) -> int:
    """Return where a word of :func:`words` begins, from 0."""
    return next(itertools.islice(_WORD.finditer(text), word, None)).start()


def shingles(text: str) -> frozenset[int]:
    """Return the hashes of all runs of five characters of the normal form; one hash for a shorter text."""
    data = normalised(text)
    count = max(1, len(data) - SHINGLE + 1)
    return frozenset(zlib.crc32(data[i : i + SHINGLE].encode()) for i in range(count))


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Return the size of the intersection over that of the union."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def rows_of_a_band(threshold: float) -> int:
    """Return how many hashes must all agree for two texts to be held against each other: the more, the fewer are.

    Two texts of Jaccard similarity 0.8 share one of 25 bands of 5 with probability 1 - (1 - 0.8^5)^25 = 0.99995; of
    0.3 with 0.06.
    """
    enough = (r for r in range(_MOST_ROWS, 1, -1) if (1 - threshold**r) ** (_HASHES // r) < _MISSED)
    return next(enough, 1)


def packed(found: frozenset[int]) -> NDArray[np.uint32]:
    """Return shingles as they are kept: four bytes each, where a set takes about a hundred."""
    return np.fromiter(found, dtype=np.uint32, count=len(found))


def unpacked(kept: NDArray[np.uint32]) -> frozenset[int]:
    """Return the shingles of :func:`packed`."""
    return frozenset(kept.tolist())


class NearTexts:
    """Texts that can be asked which of them are near another one.

    Args:
        threshold: Jaccard similarity of shingles from which two texts are near.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._rows = rows_of_a_band(threshold)
        draws = np.random.default_rng(0).integers(1 << 63, size=(2, _HASHES, 1), dtype=np.uint64)
        draws = draws[:, : _HASHES // self._rows * self._rows]
        self._factors, self._shifts = draws[0] | np.uint64(1), draws[1]
        self._sets: list[NDArray[np.uint32]] = []
        self._buckets: dict[bytes, int | list[int]] = {}
        """Numbers of the texts that have a key: most keys are those of one text, and a list takes more memory."""

    def __len__(self) -> int:
        return len(self._sets)

    def add_all(self, texts: Iterable[str]) -> None:
        """Add texts."""
        for text in texts:
            self.add(shingles(text))

    def add(self, found: frozenset[int]) -> None:
        """Add a text by its shingles."""
        number = len(self._sets)
        for key in self._keys(found):
            there = self._buckets.setdefault(key, number)
            if isinstance(there, list):
                there.append(number)
            elif there != number:
                self._buckets[key] = [there, number]
        self._sets.append(packed(found))

    def near(self, found: frozenset[int]) -> Iterator[int]:
        """Yield the numbers of the texts that are near this one, in the order in which they were added."""
        buckets = [self._buckets.get(key, ()) for key in self._keys(found)]
        for index in sorted({i for bucket in buckets for i in ((bucket,) if isinstance(bucket, int) else bucket)}):
            if jaccard(found, unpacked(self._sets[index])) >= self.threshold:
                yield index

    def _keys(self, found: frozenset[int]) -> Iterator[bytes]:
        """Yield one key a band: equal where the smallest hashes of its rows are."""
        values = np.fromiter(found, dtype=np.uint64, count=len(found))
        values *= _GOLDEN  # modulo 2^64, as below: unsigned arrays wrap around
        values ^= values >> np.uint64(29)
        hashed = (self._factors * values + self._shifts) >> np.uint64(24)  # (bands * rows, shingles)
        lowest: NDArray[np.uint64] = hashed.min(axis=1).reshape(-1, self._rows)
        for band, rows in enumerate(lowest):
            yield band.to_bytes(1, "big") + rows.tobytes()
