"""Where the pooled position looks over many texts, and which tokens their vectors depend on, by kinds of tokens.

Legend: T texts, A of them attributed, N layers with attention, K kinds of tokens.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from embedllm.analysis.attribution import gradient_x_input, left_out, mean_direction
from embedllm.analysis.pooled_rows import check_layer, head_name, implementation, pooled_rows
from embedllm.analysis.single_text import by_kind
from embedllm.analysis.stages import Source, opened
from embedllm.analysis.tokens import KINDS, describe
from embedllm.data.sources import open_source
from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.eval.bootstrap import draws, interval
from embedllm.eval.sampling import sample_rows

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """Means over texts with the bounds of their 95 % intervals, all of one shape."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CorpusStage:
    """A corpus at one stage. Shares sum to one over the kinds; those of attention are means over heads."""

    label: str
    layers: tuple[int, ...]
    attention: Floats
    """(T, N, K)."""
    left_out: Floats
    """(A, K) shares of the cosine distances."""
    gradient: Floats
    """(A, K) shares of the absolute parts."""
    cut: int
    """Texts that are longer than the model reads."""
    head: str
    fast: str

    @property
    def pooled_position(self) -> str:
        """What the vectors are made of, in words."""
        return self.head

    def layer(self, number: int) -> Floats:
        """Return the shares in a layer, (T, K)."""
        shares: Floats = self.attention[:, self.layers.index(number)]
        return shares


def read_corpus(name: str, column: str, most: int) -> list[str]:
    """Return a fixed sample of the distinct texts of a file that are not blank.

    Args:
        name: csv, tsv, jsonl, parquet or txt, ``embedded:NAME`` or ``hub:NAME``.
        column: of the texts; a txt file has none.
        most: texts of the sample.

    Raises:
        InputError: the file has no such column, or fewer than two texts.
    """
    table = open_source(name, [column], "--corpus")
    if column not in table.columns:
        there = ", ".join(map(str, table.columns))
        raise InputError(f"--column: {name!r} has no column {column!r}; it has: {there}")
    texts = list(dict.fromkeys(text for row in table.rows if (text := str(row.get(column) or "").strip())))
    if len(texts) < 2:
        raise InputError(f"--corpus: {name!r} has {len(texts)} texts in {column!r}; an interval needs at least 2")
    return [texts[i] for i in sample_rows(len(texts), most)]


def analyse_corpus(
    sources: Sequence[Source], texts: Sequence[str], attributed: int, layer: int | None = None
) -> Iterator[CorpusStage]:
    """Yield the stages, each with its own model, which is let go before the next.

    Args:
        sources: the stages.
        texts: T of them.
        attributed: the first A of the texts have their tokens left out, a forward pass for each; 0: none.
        layer: that the models must have; None: any.

    Raises:
        InputError: they have not.
    """
    for source in sources:
        with opened(source) as embedder:
            check_layer(embedder, layer)
            yield _stage(source.label, embedder, texts, attributed)


def estimate(values: Floats) -> Estimate:
    """Return the mean over texts of values, (T, ...), with a bootstrap interval over texts."""
    flat = values.reshape(len(values), -1)
    means = np.concatenate([block.weights @ flat / len(flat) for block in draws(len(flat))])  # (resamples, ...)
    bounds = np.array([interval(column) for column in means.T]).T  # (2, ...)
    low, high = bounds.reshape(2, *values.shape[1:])
    return Estimate(values.mean(axis=0), low, high)


def corpus_csv(stages: Sequence[CorpusStage]) -> str:
    """Return all shares with their intervals as csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "measure", "layer", "kind", "share", "low", "high", "texts"])
    for stage in stages:
        attention = estimate(stage.attention)
        for place, layer in enumerate(stage.layers):
            bounds = Estimate(*(numbers[place] for numbers in attention))
            writer.writerows(_rows(stage.label, "attention", str(layer), bounds, len(stage.attention)))
        for measure, shares in (("left_out", stage.left_out), ("gradient_x_input", stage.gradient)):
            if len(shares):
                writer.writerows(_rows(stage.label, measure, "", estimate(shares), len(shares)))
    return text.getvalue()


def _rows(stage: str, measure: str, layer: str, found: Estimate, texts: int) -> Iterator[list[str]]:
    """Yield the shares, (K,), of one measure as cells."""
    for kind, *numbers in zip(KINDS, *found, strict=True):
        yield [stage, measure, layer, kind, *(f"{number:.6g}" for number in numbers), str(texts)]


def _stage(label: str, embedder: Embedder, texts: Sequence[str], attributed: int) -> CorpusStage:
    tokens = describe(embedder, texts)
    rows = [found.ids for found in tokens]
    shares: dict[int, Floats] = {}
    layers: tuple[int, ...] = ()
    with tqdm(total=sum(map(len, rows)), unit="tok", unit_scale=True, desc=f"{label}: attention") as bar:
        for i, found in pooled_rows(embedder, rows):
            layers = found.layers
            shares[i] = by_kind(found.weights.mean(axis=1), tokens[i].kinds)  # (N, K)
            bar.update(len(rows[i]))
    few = tokens[:attributed]
    direction = mean_direction(embedder) if few else np.zeros(0)
    parts = []
    for one in tqdm(few, unit="text", desc=f"{label}: attribution", disable=not few):
        measures = left_out(embedder, one.ids), gradient_x_input(embedder, one.ids, direction)
        parts.append([by_kind(np.abs(values), one.kinds) for values in measures])
    found_parts = np.array(parts).reshape(len(few), 2, len(KINDS))
    return CorpusStage(
        label,
        layers,
        np.stack([shares[i] for i in range(len(texts))]),
        found_parts[:, 0],
        found_parts[:, 1],
        sum(one.uncut > len(one) for one in tokens),
        head_name(embedder),
        implementation(embedder),
    )
