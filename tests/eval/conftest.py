import csv
import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

WORDS = {
    "fish": ("trout", "salmon", "carp", "cod"),
    "tree": ("oak", "birch", "pine", "elm"),
    "star": ("sirius", "vega", "rigel", "deneb"),
}
FILLER = ("the", "a", "of", "moon", "sea", "old")


class HashEncoder:
    """Counts character trigrams in `dimensions` buckets; says what it was asked."""

    def __init__(self, dimensions: int = 32, salt: str = "") -> None:
        self.dimensions = dimensions
        self.salt = salt
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        return np.stack([self._vector(text) for text in texts]).astype(np.float32)

    def _vector(self, text: str) -> np.ndarray:
        vector = np.full(self.dimensions, 1e-3)
        for start in range(max(1, len(text) - 2)):
            digest = hashlib.sha256((self.salt + text[start : start + 3]).encode()).digest()
            vector[digest[0] % self.dimensions] += 1
        return vector / np.linalg.norm(vector)


@pytest.fixture
def hash_encoder() -> Callable[..., HashEncoder]:
    return HashEncoder


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: Sequence[Sequence[object]], name: str = "topics.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    return write


@pytest.fixture
def topics(write_csv: Callable[..., Path]) -> Path:
    """A csv of 91 labelled texts, no two alike."""
    rng = random.Random(0)
    labels = [rng.choice(list(WORDS)) for _ in range(91)]
    texts = [f"{' '.join(rng.choices(WORDS[label] + FILLER, k=4))} {n}" for n, label in enumerate(labels)]
    return write_csv([("text", "label"), *zip(texts, labels, strict=True)])


@pytest.fixture
def pairs(write_csv: Callable[..., Path]) -> Path:
    """A csv of 40 scored pairs, no two alike."""
    rng = random.Random(1)
    rows = []
    for number in range(40):
        first = rng.choices(WORDS["fish"] + FILLER, k=5)
        kept = rng.randrange(5)
        second = first[:kept] + rng.choices(WORDS["star"], k=5 - kept)
        rows.append((f"{' '.join(first)} {number}", f"{' '.join(second)} {number}", kept + rng.random()))
    return write_csv([("sentence1", "sentence2", "score"), *rows], name="pairs.csv")
