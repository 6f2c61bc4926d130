"""What was found, in words and tables: each measure with what it shows and what it does not."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from embedllm.analysis.attribution import REFERENCE_TEXTS
from embedllm.analysis.corpus import CorpusStage, estimate
from embedllm.analysis.single_text import TextStage, by_kind
from embedllm.analysis.tokens import KINDS, MEANINGS
from embedllm.report.tables import aligned

Floats = npt.NDArray[np.float64]

ATTENTION = (
    "Shows which tokens the pooled position reads in this layer; not what the vector depends on: a token that is read "
    "may add nothing (heads rest on the first token), and below the first layer a place holds more than its own token."
)
LEFT_OUT = (
    "Shows how far the vector moves, in cosine distance, when one token is taken out and those after it move up; not "
    "what tokens do together: of two that say the same, neither counts."
)
GRADIENT = (
    f"Shows, to first order, what a token's embedding adds to the vector's cosine distance from the mean of "
    f"{REFERENCE_TEXTS} other texts; not what a change of the word would do, which is no small step."
)


def pooled_positions(stages: Sequence[TextStage] | Sequence[CorpusStage]) -> str:
    """Return what the vectors are made of, in words; where the heads differ, with the stages that have each."""
    found: dict[str, str] = {}
    labels: dict[str, list[str]] = {}
    for stage in stages:
        found.setdefault(stage.head, stage.pooled_position)
        labels.setdefault(stage.head, []).append(stage.label)
    if len(found) == 1:
        return stages[0].pooled_position
    return "; ".join(f"{position} ({', '.join(labels[head])})" for head, position in found.items())


def text_summary(stages: Sequence[TextStage], layer: int) -> str:
    """Return the tables of a text, in percent by kind of token, and the sentences."""
    first = stages[0]
    kinds = first.tokens.kinds
    lines = [f"{len(first.tokens)} tokens; pooled position: {pooled_positions(stages)}"]
    if first.tokens.uncut > len(first.tokens):
        lines.append(f"the text is cut: with its prompt it has {first.tokens.uncut} tokens")
    lines.append(_implementation(first.fast))
    attention = {stage.label: by_kind(stage.layer(layer).mean(axis=0), kinds) for stage in stages}
    heads = f"mean of {first.rows.weights.shape[1]} heads"
    left_out = {stage.label: by_kind(np.abs(stage.left_out), kinds) for stage in stages}
    gradient = {stage.label: by_kind(np.abs(stage.gradient), kinds) for stage in stages}
    measures = [
        (f"Attention of the pooled position, layer {layer}, {heads}, %", attention, ATTENTION),
        ("Leave one token out, % of all distances", left_out, LEFT_OUT),
        ("Gradient x input, % of all sizes", gradient, GRADIENT),
    ]
    there = [kind for kind in KINDS if kind in kinds]
    for title, shares, sentence in measures:
        cells = {label: [f"{100 * found[KINDS.index(kind)]:.1f}" for kind in there] for label, found in shares.items()}
        lines += ["", title, _table(there, cells), sentence]
    return "\n".join([*lines, "", *_meanings(there)])


def corpus_summary(stages: Sequence[CorpusStage], layer: int) -> str:
    """Return the tables of a corpus, in percent with 95 % intervals over texts, and the sentences."""
    first = stages[0]
    lines = [
        f"{len(first.attention)} texts; the pooled position is that of {pooled_positions(stages)}",
        _implementation(first.fast),
    ]
    if first.cut:
        lines.insert(1, f"{first.cut} texts are longer than the model reads, and are cut")
    there = [kind for i, kind in enumerate(KINDS) if any(stage.attention[..., i].any() for stage in stages)]
    attributed = f"{len(first.left_out)} texts"
    measures = [
        (f"Attention of the pooled position, layer {layer}, %", {s.label: s.layer(layer) for s in stages}, ATTENTION),
        (f"Leave one token out, {attributed}, % of all distances", {s.label: s.left_out for s in stages}, LEFT_OUT),
        (f"Gradient x input, {attributed}, % of all sizes", {s.label: s.gradient for s in stages}, GRADIENT),
    ]
    for title, shares, sentence in measures:
        if not len(shares[first.label]):
            continue
        cells = {label: _with_intervals(found, there) for label, found in shares.items()}
        for stage in stages[1:]:
            change = shares[stage.label] - shares[first.label]
            cells[f"{stage.label} - {first.label}"] = _with_intervals(change, there, signed=True)
        lines += ["", title, _table(there, cells), sentence]
    return "\n".join([*lines, "", *_meanings(there)])


def _table(kinds: Sequence[str], cells: Mapping[str, Sequence[str]]) -> str:
    return aligned([["", *kinds], *([label, *row] for label, row in cells.items())], left=1)


def _with_intervals(shares: Floats, kinds: Sequence[str], *, signed: bool = False) -> list[str]:
    """Return the mean of shares, (T, K), and its interval, for each kind that is there."""
    sign = "+" if signed else ""
    found = [100 * numbers for numbers in estimate(shares)]
    cells = []
    for i in (KINDS.index(kind) for kind in kinds):
        mean, low, high = (format(numbers[i], f"{sign}.1f") for numbers in found)
        cells.append(f"{mean} ({low} to {high})")
    return cells


def _implementation(fast: str) -> str:
    if fast == "eager":
        return "attention is computed by the model's eager implementation, as vectors are"
    return f"attention is computed by the model's eager implementation, since {fast} returns no weights"


def _meanings(kinds: Sequence[str]) -> list[str]:
    return [f"{kind}: {MEANINGS[kind]}" for kind in kinds]
