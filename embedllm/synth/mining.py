"""Hard negatives for a finished pair file: positives of other pairs that an embedder takes for near."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from embedllm.data.augment import draw_index, keyed_rng
from embedllm.errors import InputError
from embedllm.synth.gates.normal import normalised
from embedllm.synth.gates.similarity import load_frozen
from embedllm.synth.pair_file import METADATA, merged_notes
from embedllm.synth.parts import write_whole

_COSINES = 1 << 26
"""Cosines that are held at once: those of so many anchors with all texts, a quarter of a gigabyte."""


@dataclass(frozen=True)
class Mining:
    """Which texts become hard negatives.

    The positives of all pairs are ranked by their cosine with an anchor, its own positives and texts equal to them left
    out. The first ranks are often positives that nobody marked, so a range further down is drawn from, and a text must
    be clearly further from the anchor than the anchor's positive is.

    Args:
        model: a run, a saved model or a decoder.
        low: first rank that is drawn from, from 0.
        high: first rank that no longer is.
        margin: by how much the cosine of a negative is at least below that of the positive.
        count: negatives of a pair; fewer where the range has no more.
        max_length: tokens of a bare decoder's texts that are read.
    """

    model: str = "embedded:smollm2_135m"
    low: int = 10
    high: int = 50
    margin: float = 0.05
    count: int = 1
    max_length: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise InputError(f"mine.low: {self.low} to mine.high: {self.high} is no range of ranks")
        if self.count < 1:
            raise InputError(f"mine.count: {self.count} is not allowed; the lowest value is 1")

    def negatives(
        self, anchors: Sequence[str], positives: Sequence[str], vectors: tuple[NDArray[Any], NDArray[Any]], seed: int
    ) -> list[list[str]]:
        """Return the hard negatives of each pair.

        Args:
            anchors: N texts.
            positives: their positives.
            vectors: of anchors and positives, (N, D) each, of unit length.
            seed: keys the draws, with the row.
        """
        pool = list(dict.fromkeys(positives))
        places = {text: i for i, text in enumerate(pool)}
        own = _own_texts(anchors, positives)
        forms = [normalised(text) for text in pool]
        first = {text: row for row, text in reversed(list(enumerate(positives)))}
        texts = vectors[1][[first[text] for text in pool]]  # (pool, D)
        found = []
        chunk = max(1, min(1024, _COSINES // len(pool)))
        for start in range(0, len(anchors), chunk):
            cosines = vectors[0][start : start + chunk] @ texts.T  # (chunk, pool)
            for row, line in enumerate(cosines, start=start):
                ranked = _ranked(line, self.high + len(own[normalised(anchors[row])]))
                others = [i for i in ranked if forms[i] not in own[normalised(anchors[row])]][self.low : self.high]
                limit = line[places[positives[row]]] - self.margin
                found.append(self._drawn([pool[i] for i in others if line[i] <= limit], seed, row))
        return found

    def _drawn(self, candidates: list[str], seed: int, row: int) -> list[str]:
        rng = keyed_rng(seed, 0, row, "negatives")
        return [candidates.pop(draw_index(len(candidates), rng)) for _ in range(min(self.count, len(candidates)))]


def mine_negatives(pairs: Path, output: Path, mining: Mining, seed: int, *, progress: bool = True) -> dict[str, int]:
    """Write the pairs again with a column ``negatives``, after those that are there; a pair may have an empty list.

    Returns:
        Counts: ``pairs`` and ``without`` a negative.

    Raises:
        InputError: the file cannot be read, or has no pairs.
    """
    table = _read(pairs)
    anchors, positives = table["anchor"].to_pylist(), table["positive"].to_pylist()
    embedder = load_frozen(mining.model, mining.max_length, "mine.model")
    encoded = embedder.encode([*anchors, *positives], progress=progress)
    encoded /= np.maximum(np.linalg.norm(encoded, axis=1, keepdims=True), 1e-12)
    found = mining.negatives(anchors, positives, (encoded[: len(anchors)], encoded[len(anchors) :]), seed)
    if "negatives" in table.column_names:  # such as the contradictions of an NLI file
        there = table["negatives"].to_pylist()
        found = [list(dict.fromkeys([*_listed(old), *new])) for old, new in zip(there, found, strict=True)]
    column = pa.array(found, pa.list_(pa.string()))
    if "negatives" in table.column_names:
        table = table.set_column(table.column_names.index("negatives"), "negatives", column)
    else:
        table = table.add_column(table.column_names.index("positive") + 1, "negatives", column)
    notes = merged_notes(table.schema.metadata, {"mined": {**vars(mining), "seed": seed}})
    table = table.replace_schema_metadata({METADATA: notes})
    write_whole(output, lambda path: parquet.write_table(table, path, compression="zstd"))
    return {"pairs": len(anchors), "without": sum(not texts for texts in found)}


def _read(pairs: Path) -> pa.Table:
    if not pairs.is_file():
        raise InputError(f"FILE: no file at {str(pairs)!r}; --mine takes a parquet file of pairs")
    try:
        table = parquet.read_table(pairs)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"FILE: {str(pairs)!r} cannot be read as parquet ({' '.join(str(error).split())})") from error
    missing = {"anchor", "positive"} - set(table.column_names)
    if missing:
        listed = ", ".join(table.column_names)
        raise InputError(f"FILE: {str(pairs)!r} lacks the column {min(missing)!r}; it has {listed}")
    if len(table) < 2:
        raise InputError(f"FILE: {str(pairs)!r} has {len(table)} pairs; negatives are texts of other pairs")
    for name in ("anchor", "positive"):
        for number, text in enumerate(table[name].to_pylist(), start=1):
            if not isinstance(text, str) or not text.strip():
                raise InputError(
                    f"FILE: row {number} of {str(pairs)!r} has {str(text)[:40]!r} as {name}, which is no text"
                )
    return table


def _listed(texts: Any) -> list[str]:
    """Return the negatives of a row; a column of single texts and rows without one are fine too."""
    return [text for text in ([texts] if isinstance(texts, str) else texts or ()) if text]


def _own_texts(anchors: Sequence[str], positives: Sequence[str]) -> dict[str, set[str]]:
    """Return for each anchor the texts that may not be its negatives, all in normal form."""
    own: dict[str, set[str]] = {}
    for anchor, positive in zip(anchors, positives, strict=True):
        own.setdefault(normalised(anchor), {normalised(anchor)}).add(normalised(positive))
    return own


def _ranked(cosines: NDArray[Any], count: int) -> list[int]:
    """Return the places of the highest cosines, highest first, equal ones in order."""
    count = min(count, len(cosines))
    best = np.argpartition(-cosines, count - 1)[:count]
    ranked: list[int] = best[np.lexsort((best, -cosines[best]))].tolist()
    return ranked
