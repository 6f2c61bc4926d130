"""Finished blocks of drafts on disk: small files beside the output, so that a killed run goes on where it was."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import getpid
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import parquet

from embedllm.errors import InputError
from embedllm.runs import clear_leftovers, replace_text
from embedllm.synth.draft import Draft

_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("copy", pa.int64()),
        ("anchor", pa.string()),
        ("positive", pa.string()),
        ("negatives", pa.list_(pa.string())),
        ("generator", pa.string()),
        ("style", pa.string()),
        ("written", pa.bool_()),
        ("truncated", pa.bool_()),
        ("reason", pa.string()),
        ("mended", pa.bool_()),
        ("scores", pa.string()),
    ]
)


@dataclass(frozen=True)
class Parts:
    """The folder ``OUT.parquet.parts``.

    Attributes:
        folder: the folder; it may not exist yet.
        identity: what decides the drafts, as JSON values.
    """

    folder: Path
    identity: Mapping[str, Any]

    @classmethod
    def beside(cls, output: Path, identity: Mapping[str, Any]) -> "Parts":
        """Return the folder that belongs to an output file."""
        return cls(output.with_name(f"{output.name}.parts"), identity)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, and keep other processes out of it; one that holds no block at the end is taken away.

        Raises:
            InputError: another process is at work in it, or it belongs to another input or other settings.
        """
        self.folder.mkdir(exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise InputError(
                f"-o: another process is at work in {str(self.folder)!r}; wait for it or stop it"
            ) from error
        try:
            self._check_identity()
            clear_leftovers(self.folder)
            yield
        finally:
            if not self._any():
                self.remove()
            lock.release()

    def _check_identity(self) -> None:
        manifest = self.folder / "manifest.json"
        if not self._any():  # a run that failed before its first block keeps no other settings out
            replace_text(manifest, json.dumps(self.identity, indent=2, sort_keys=True) + "\n")
            return
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found != self.identity:
            raise InputError(
                f"-o: {str(self.folder)!r} holds the parts of another run ({difference(found, self.identity)}); "
                "give back what made them, choose another output, or delete that folder"
            )

    def _any(self) -> bool:
        """Return whether a block is done."""
        return any(self.folder.glob("[0-9]*.parquet"))

    def path(self, block: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"{block:06}.parquet"

    def write(self, block: int, drafts: Sequence[Draft]) -> None:
        """Write a block in one stroke."""
        columns = {name: [getattr(draft, name) for draft in drafts] for name in _SCHEMA.names if name != "scores"}
        columns["scores"] = [json.dumps(dict(draft.scores), sort_keys=True) for draft in drafts]
        table = pa.table(columns, schema=_SCHEMA)
        write_whole(self.path(block), lambda path: parquet.write_table(table, path))

    def read(self, block: int) -> list[Draft] | None:
        """Return the drafts of a block; None if it is not done, or its file is damaged."""
        try:
            rows = parquet.read_table(self.path(block), schema=_SCHEMA).to_pylist()
        except (pa.ArrowException, OSError):
            return None
        return [
            Draft(**{**row, "negatives": tuple(row["negatives"]), "scores": json.loads(row["scores"])}) for row in rows
        ]

    def remove(self) -> None:
        """Take the folder away; its parts are in the output."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside ``path`` and move it there: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def difference(found: Any, wanted: Mapping[str, Any]) -> str:
    """Return in a few words the first thing in which two identities differ."""
    if not isinstance(found, dict):
        return "its manifest cannot be read"
    old, new = _flat(found), _flat(wanted)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            what = "another input" if name == "source" else f"{name.removeprefix('settings.')}={old.get(name)!r}"
            return what if name == "source" else f"{what}, not {new.get(name)!r}"
    return "nothing differs"


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
