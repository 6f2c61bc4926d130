"""Finds the files of a mirror, a folder with the data of mteb's tasks; :mod:`embedllm.eval.mirror` has the layout."""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from embedllm.data.digest import file_digest
from embedllm.data.formats import SUFFIXES, file_format
from embedllm.errors import InputError

_ENDINGS = tuple(suffix + packing for suffix in SUFFIXES for packing in ("", ".gz"))


def mirror_folder(setting: str | None) -> Path | None:
    """Return the folder that ``eval.mirror`` names; None for null.

    Raises:
        InputError: There is no such folder.
    """
    if setting is None:
        return None
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        raise InputError(f"eval.mirror: no folder at {setting!r} (looked from the folder {str(Path.cwd())!r})")
    return folder


def mirror_digest(name: str, mirror: Path) -> str:
    """Return 16 hexadecimal digits that depend on the files of the task ``name`` and on nothing else.

    Raises:
        InputError: The mirror has no such task.
    """
    folder = _task_folder(name, mirror)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if file_format(path.name) and path.is_file()):
        known = path.stat()
        content = _content(path, known.st_size, known.st_mtime_ns)
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def task_files(task: Any, mirror: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield subset, split and file of all that an mteb task is evaluated on or trained on.

    Raises:
        InputError: A folder or a file is missing.
    """
    base = _task_folder(task.metadata.name, mirror)
    trained = [task.train_split] if task.metadata.type == "Classification" else []
    for subset in task.hf_subsets:
        folder = base / subset
        if not folder.is_dir():
            if len(task.hf_subsets) > 1:
                raise InputError(f"{where(base)} has no folder for the subset {subset!r}, and the task is scored on it")
            folder = base
        for split in dict.fromkeys([*task.eval_splits, *trained]):
            yield subset, split, _split_file(folder, split)


def where(path: Path) -> str:
    """Return what messages about a path of the mirror begin with."""
    return f"eval.mirror: {str(path)!r}"


@cache
def _content(path: Path, size: int, changed_ns: int) -> str:
    """Return the digest of a file, once for each state of it: a run asks several times, and mirrors are large."""
    return file_digest(path)


def _task_folder(name: str, mirror: Path) -> Path:
    folder = mirror / name
    if not folder.is_dir():
        raise InputError(f"{where(mirror)} has no folder {name!r} with the data of that task")
    return folder


def _split_file(folder: Path, split: str) -> Path:
    found = [path for ending in _ENDINGS if (path := folder / f"{split}{ending}").is_file()]
    if not found:
        endings = ", ".join(SUFFIXES)
        raise InputError(f"{where(folder)} has no file for the split {split!r}; {split} ends in {endings} (or + .gz)")
    if len(found) > 1:
        raise InputError(f"{where(folder)} has both {found[0].name!r} and {found[1].name!r}; keep one")
    return found[0]
