"""The pair file: what it holds besides the texts, and how it is written and read.

Columns: ``anchor, positive``, ``negatives`` where there are some, ``generator, style, seed``, one ``score_NAME`` for
each score (four decimals), ``source_row`` (from 0) and ``copy``. The metadata hold the settings, the SHA-256 of the
source and what each gate removed. Nothing in it depends on the time or on how often the run was stopped.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from embedllm.errors import InputError
from embedllm.synth.draft import Draft
from embedllm.synth.parts import write_whole

METADATA = b"embedllm.synth"
SCORE = "score_"
EXAMPLES = 5
"""Removed pairs of each reason that are shown in the metadata."""
_SHOWN = 300  # characters of each text there


def write_pairs(path: Path, drafts: Sequence[Draft], seed: int, facts: Mapping[str, Any]) -> None:
    """Write the drafts without a reason.

    Args:
        path: the file.
        drafts: kept and removed ones, in order.
        seed: of the run.
        facts: what else goes into the metadata, as JSON values.
    """
    kept = [draft for draft in drafts if not draft.reason]
    columns: dict[str, Any] = {name: pa.array([getattr(d, name) for d in kept], pa.string()) for name in _TEXTS}
    if any(draft.negatives for draft in kept):
        columns["negatives"] = pa.array([list(draft.negatives) for draft in kept], pa.list_(pa.string()))
    columns |= {name: pa.array([getattr(d, name) for d in kept], pa.string()) for name in ("generator", "style")}
    columns["seed"] = pa.array([seed] * len(kept), pa.int64())
    for name in sorted({name for draft in kept for name in draft.scores}):
        columns[SCORE + name] = pa.array([draft.scores.get(name) for draft in kept], pa.float64())
    columns["source_row"] = pa.array([draft.row for draft in kept], pa.int64())
    columns["copy"] = pa.array([draft.copy for draft in kept], pa.int64())
    notes = json.dumps({**facts, **summary(drafts)}, sort_keys=True, ensure_ascii=False)
    table = pa.table(columns).replace_schema_metadata({METADATA: notes.encode()})
    write_whole(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


_TEXTS = ("anchor", "positive")


def summary(drafts: Sequence[Draft]) -> dict[str, Any]:
    """Return how many drafts were made and kept, what removed the others, and the first few examples of each reason."""
    removed = Counter(draft.reason for draft in drafts if draft.reason)
    styles: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[str, list[dict[str, str]]] = defaultdict(list)
    for draft in drafts:
        styles[draft.style or draft.generator]["removed" if draft.reason else "kept"] += 1
        if draft.reason and len(examples[draft.reason]) < EXAMPLES:
            shown = {"anchor": draft.anchor[:_SHOWN], "positive": draft.positive[:_SHOWN], "style": draft.style}
            examples[draft.reason].append(shown)
    return {
        "drafts": len(drafts),
        "kept": len(drafts) - removed.total(),
        "removed": dict(removed),
        "mended": sum(draft.mended for draft in drafts),
        "styles": {name: dict(counts) for name, counts in styles.items()},
        "examples": dict(examples),
    }


def read_notes(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a pair file; None if it is a parquet file that ``embedllm synth`` did not write.

    Raises:
        InputError: it is no parquet file.
    """
    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{str(path)!r} cannot be read as parquet ({' '.join(str(error).split())})") from error
    notes: dict[str, Any] | None = json.loads(metadata[METADATA]) if METADATA in metadata else None
    return notes


def merged_notes(metadata: Mapping[bytes, bytes] | None, more: Mapping[str, Any]) -> bytes:
    """Return the metadata of a pair file with more notes in them, as they are written."""
    notes = json.loads((metadata or {}).get(METADATA, b"{}"))
    return json.dumps({**notes, **more}, sort_keys=True, ensure_ascii=False).encode()
