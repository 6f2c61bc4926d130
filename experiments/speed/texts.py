"""Texts of two kinds for the benchmarks: titles of about 20 tokens, and texts of 10 to 500."""

import csv
import os
import random
from pathlib import Path

from embedllm.data.embedded_files import embedded_data_path

KINDS = ("titles", "sentences", "mixed")


def read_texts(kind: str, count: int) -> list[str]:
    """Return so many texts, no two of them equal, in an order that is always the same.

    Args:
        kind: ``titles`` of Stack Overflow (in the folder ``EMBEDLLM_DATA``), ``sentences`` of Wikipedia, or ``mixed``:
            runs of such sentences whose lengths are spread evenly on a logarithmic scale, from 8 to 380 words.
        count: of the texts.
    """
    if kind == "titles":
        texts = _column(Path(os.environ["EMBEDLLM_DATA"]) / "cluster_stackoverflow20.csv", "text")
    else:
        sentences = _column(embedded_data_path("wikipedia_sentences"), "anchor")
        texts = sentences if kind == "sentences" else _runs(sentences, count)
    return list(dict.fromkeys(texts))[:count]


def _column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def _runs(sentences: list[str], count: int) -> list[str]:
    words, rng = " ".join(sentences).split(), random.Random(0)
    lengths = [round(8 * (380 / 8) ** rng.random()) for _ in range(count)]
    starts = [rng.randrange(len(words) - length) for length in lengths]
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
