"""Make a pair file out of a source, block by block; killed at any point, the same call goes on.

Nothing that is drawn depends on the blocks that were done before, and the whole-file gates see all drafts in order, so
the file equals that of a run that nothing stopped.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Gate, Generator, Item
from embedllm.synth.pair_file import read_notes, write_pairs
from embedllm.synth.parts import Parts, difference
from embedllm.synth.rows import SourceRows

log = logging.getLogger(__name__)

FORMAT = 2
"""Raised when the code below makes other files of the same settings."""


@dataclass(frozen=True)
class SynthPlan:
    """What is made of what.

    Attributes:
        rows: the source.
        output: the pair file.
        generator: makes the drafts.
        gates: applied in this order, those that see the whole file last.
        settings: everything that decides the drafts besides the source, as JSON values.
        seed: keys every draw.
        block: rows that are done or lost together when the run is killed.
        copies: drafts of each row.
        max_characters: rows with a text longer than this are not used.
    """

    rows: SourceRows
    output: Path
    generator: Generator
    gates: Sequence[Gate]
    settings: Mapping[str, Any]
    seed: int = 0
    block: int = 64
    copies: int = 1
    max_characters: int = 100_000

    @property
    def identity(self) -> dict[str, Any]:
        """What parts and output must agree on."""
        return {"format": FORMAT, "source": self.rows.digest, "rows": len(self.rows), "settings": dict(self.settings)}

    @property
    def usable(self) -> SourceRows:
        """The rows that may be in a pair."""
        items = [item for item in self.rows if not _why_unusable(item, self.max_characters)]
        return SourceRows(items, self.rows.digest)

    def items(self, block: int) -> list[Item]:
        """Return the drafts that a block is to make."""
        rows = self.rows.items[block * self.block : (block + 1) * self.block]
        return [replace(item, copy=copy) for item in rows for copy in range(self.copies)]


def make_pairs(plan: SynthPlan, *, progress: bool = True) -> dict[str, Any]:
    """Write the pair file and return its notes; one that is there already is left as it is.

    Raises:
        InputError: the output or its parts belong to another source or other settings, or something is missing.
        OSError: the disk is full, say; what was written stays.
    """
    check_output(plan.output)
    parts = Parts.beside(plan.output, plan.identity)
    done = _finished(plan, parts)
    if done is None:
        try:
            with parts.opened():
                if _finished(plan, parts) is None:  # else another process has just made it
                    _make_parts(plan, parts, progress)
                    _merge(plan, parts)
                parts.remove()
        except OSError as error:
            raise OSError(
                error.errno or 0,
                f"{error.strerror or error}; what is written stays, and the same command goes on from there",
                str(error.filename or parts.folder),
            ) from error
        done = read_notes(plan.output)
    return done or {}


def check_output(output: Path) -> None:
    """Raise unless a parquet file can be written there."""
    if output.suffix != ".parquet":
        raise InputError(f"-o: {str(output)!r} does not end in .parquet")
    if not output.resolve().parent.is_dir() or not os.access(output.resolve().parent, os.W_OK):
        raise InputError(f"-o: the folder of {str(output)!r} cannot be written to")


def _finished(plan: SynthPlan, parts: Parts) -> dict[str, Any] | None:
    """Return the notes of an output that these settings made, and take away parts that a kill left beside it."""
    if not plan.output.exists():
        return None
    notes = read_notes(plan.output)
    made_by = None if notes is None else {name: notes.get(name) for name in plan.identity}
    if notes is None or made_by != plan.identity or "mined" in notes:
        why = "not made by embedllm synth" if notes is None else f"made by {difference(made_by, plan.identity)}"
        why = "made by --mine" if notes and "mined" in notes else why
        raise InputError(f"-o: {str(plan.output)!r} is there and was {why}; choose another name or delete it")
    parts.remove()
    return notes


def _make_parts(plan: SynthPlan, parts: Parts, progress: bool) -> None:
    blocks = -(-len(plan.rows) // plan.block)
    missing = [block for block in range(blocks) if parts.read(block) is None]
    for gate in plan.gates:
        gate.prepare(plan.generator.writes)
    if not missing:
        return
    plan.generator.prepare(plan.usable)
    done = len(plan.rows) - sum(len(plan.rows.items[b * plan.block : (b + 1) * plan.block]) for b in missing)
    if done:
        log.info("%d of %d rows are done already", done, len(plan.rows))
    with tqdm(total=len(plan.rows), initial=done, unit="texts", desc="synth", disable=not progress) as bar:
        for block in missing:
            items = plan.items(block)
            drafts = _drafts(plan, items)
            for gate in plan.gates:
                if not gate.whole_file:
                    drafts = gate(drafts)
            parts.write(block, drafts)
            bar.update(len(items) // plan.copies)


def _drafts(plan: SynthPlan, items: Sequence[Item]) -> list[Draft]:
    """Return one draft for each item; the generator is not asked for those whose text cannot be used."""
    unusable = {i: _why_unusable(item, plan.max_characters) for i, item in enumerate(items)}
    asked = [i for i, reason in unusable.items() if not reason]
    drafts = plan.generator.generate([items[i] for i in asked]) if asked else []
    made = dict(zip(asked, drafts, strict=True))
    return [
        made[i] if i in made else Draft(item.row, item.copy, item.text[:200], reason=unusable[i])
        for i, item in enumerate(items)
    ]


def _why_unusable(item: Item, max_characters: int) -> str:
    if not item.text:
        return "source_empty"
    texts = [item.text, *(value for value in item.fields.values() if isinstance(value, str))]
    return "source_too_long" if max(map(len, texts)) > max_characters else ""


def _merge(plan: SynthPlan, parts: Parts) -> None:
    blocks = range(-(-len(plan.rows) // plan.block))
    drafts = [draft for block in blocks for draft in parts.read(block) or ()]
    for gate in plan.gates:
        if gate.whole_file:
            drafts = gate(drafts)
    whole = parts.folder / "whole.parquet"  # there the next run takes away what a kill leaves half written
    write_pairs(whole, drafts, plan.seed, plan.identity)
    whole.replace(plan.output)
