"""What can be said about a pair file: how many pairs, how long, how alike, what was removed, what overlaps."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedllm.data.augment import keyed_rng
from embedllm.data.sources import locate, open_source
from embedllm.errors import InputError
from embedllm.synth.gates.contamination import EvaluationIndex
from embedllm.synth.gates.duplicates import SeenPairs
from embedllm.synth.gates.evaluation_texts import evaluation_texts
from embedllm.synth.gates.normal import jaccard, normalised, shingles
from embedllm.synth.pair_file import SCORE, read_notes
from embedllm.synth.rows import whole_characters

SETTING = "--inspect"
EXAMPLES = 4  # of each style
_BINS = 24


@dataclass(frozen=True)
class Histogram:
    """Counts of values in equal bins.

    Attributes:
        title: what is counted.
        edges: of the bins, one more than counts.
        counts: by bin.
        median: of the values.
    """

    title: str
    edges: Sequence[float]
    counts: Sequence[int]
    median: float


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        name: of the file.
        pairs: rows with both texts.
        notes: what the file says about its making; empty for files of other makers.
        styles: pairs by style.
        histograms: of lengths, overlap and scores.
        duplicates: facts about repeated texts, as ``(what, count)``.
        overlaps: pairs with a text of each evaluation task, by its name.
        examples: pairs by style.
    """

    name: str
    pairs: int
    notes: Mapping[str, Any]
    styles: Mapping[str, int]
    histograms: Sequence[Histogram]
    duplicates: Sequence[tuple[str, int]]
    overlaps: Mapping[str, int]
    examples: Mapping[str, Sequence[Mapping[str, Any]]]


def inspect_pairs(source: str, tasks: Sequence[str]) -> Inspection:
    """Look at a pair file.

    Args:
        source: as for ``data.path``; it has the columns ``anchor`` and ``positive``.
        tasks: whose texts are looked for, as for ``eval.tasks``.

    Raises:
        InputError: the file cannot be read, or has no pairs.
    """
    indices = {task: EvaluationIndex(evaluation_texts([task], "--tasks"), near=0.8, run=13) for task in tasks}
    rows = _rows(source)
    path = locate(source, SETTING)
    notes = read_notes(path) if path is not None and path.suffix == ".parquet" else None
    styles = Counter(_style(row) for row in rows)
    return Inspection(
        Path(source).name,
        len(rows),
        notes or {},
        dict(styles.most_common()),
        _histograms(rows),
        _duplicates(rows),
        {task: sum(_overlaps(row, index) for row in rows) for task, index in indices.items()},
        _examples(rows),
    )


def _rows(source: str) -> list[dict[str, Any]]:
    columns = open_source(source, ["anchor", "positive"], SETTING).columns
    for column in ("anchor", "positive"):
        if column not in columns:
            raise InputError(f"{SETTING}: no column {column!r} in {source!r}; it has {', '.join(map(str, columns))}")
    table = open_source(source, columns, SETTING)
    rows = [_read(row, number, source) for number, row in enumerate(table.rows, start=1)]
    rows = [row for row in rows if row["anchor"] and row["positive"]]
    if not rows:
        raise InputError(f"{SETTING}: {source!r} has no pairs")
    return rows


def _read(row: Mapping[Any, Any], number: int, source: str) -> dict[str, Any]:
    """Return a row with texts, negatives as a list, and scores as numbers or None, as files without types lack them."""
    found = {str(name): whole_characters(value) for name, value in row.items()}
    against = found.get("negatives") or []
    found["negatives"] = [text for text in ([against] if isinstance(against, str) else against) if text]
    for name in ("anchor", "positive"):
        if not isinstance(found.setdefault(name, None) or "", str):
            raise InputError(
                f"{SETTING}: row {number} of {source!r} has {str(found[name])[:40]!r} as {name}, which is not text"
            )
    for name in found:
        if name.startswith(SCORE):
            found[name] = _number(found[name])
    return found


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _style(row: Mapping[str, Any]) -> str:
    return str(row.get("style") or row.get("generator") or "pairs")


def _histograms(rows: Sequence[Mapping[str, Any]]) -> list[Histogram]:
    lengths = {side: [len(row[side].split()) for row in rows] for side in ("anchor", "positive")}
    longest = sorted([*lengths["anchor"], *lengths["positive"]])[int(0.99 * (2 * len(rows) - 1))]
    width = longest // _BINS + 1  # whole words, or some bins would hold more numbers than others
    found = [histogram(f"words of the {side}", lengths[side], 0, width * _BINS) for side in lengths]
    overlap = [jaccard(shingles(row["anchor"]), shingles(row["positive"])) for row in rows]
    found.append(histogram("overlap of anchor and positive (Jaccard of character 5-grams)", overlap, 0, 1))
    for name in sorted({name for row in rows for name in row if name.startswith(SCORE)}):
        values = [row[name] for row in rows if row.get(name) is not None]
        if len(set(values)) > 1:
            low, high = min(*values, 0), max(*values, 1)
            found.append(histogram(f"score: {name.removeprefix(SCORE)}", values, low, high))
    return found


def histogram(title: str, values: Sequence[float], low: float, high: float, bins: int = _BINS) -> Histogram:
    """Count values between ``low`` and ``high``; what lies outside goes into the bin at that end."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    return Histogram(title, edges, counts, sorted(values)[len(values) // 2])


def _duplicates(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    forms = [(normalised(row["anchor"]), normalised(row["positive"])) for row in rows]
    seen = SeenPairs(0.8)
    close = sum(not seen.add(row["anchor"], row["positive"]) for row in rows)
    return [
        ("positive is the anchor", sum(anchor == positive for anchor, positive in forms)),
        ("pair is there already", len(forms) - len(set(forms))),
        ("pair is nearly there already", close),
        ("anchor has several pairs", sum(count > 1 for count in Counter(anchor for anchor, _ in forms).values())),
        ("positive has several pairs", sum(count > 1 for count in Counter(text for _, text in forms).values())),
    ]


def _overlaps(row: Mapping[str, Any], index: EvaluationIndex) -> bool:
    return any(index.has(text) for text in (row["anchor"], row["positive"], *row["negatives"]))


def _examples(rows: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return a few pairs of each style, the same ones every time."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[_style(row)].append(row)
    order = {id(row): keyed_rng(0, 0, number, "examples").random() for number, row in enumerate(rows)}
    return {style: sorted(group, key=lambda row: order[id(row)])[:EXAMPLES] for style, group in groups.items()}
