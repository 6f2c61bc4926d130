"""A folder of models made on this machine: each is built once, and is there whole or not at all."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from embedllm.errors import InputError

log = logging.getLogger(__name__)

MANIFEST = "embedllm_source.json"


def cache_folder() -> Path:
    """Return ``$EMBEDLLM_CACHE``, else ``$XDG_CACHE_HOME/embedllm``, else ``~/.cache/embedllm``; it may not exist."""
    if chosen := os.environ.get("EMBEDLLM_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "embedllm"


def cached_model(key: str, source: Mapping[str, object], build: Callable[[Path], Mapping[str, str]]) -> Path:
    """Return the folder of a model, building it first unless it is there and was built from the same ``source``.

    Processes that ask for the same model at once wait for one of them to build it. A build that is killed leaves
    a folder under another name, which the next build removes.

    Args:
        key: name of the folder.
        source: JSON values that decide the content; a change of any of them makes the model again.
        build: writes the model into an empty folder and returns what is worth noting about it in the manifest.

    Raises:
        InputError: the cache folder cannot be written.
    """
    folder = cache_folder() / key
    if _is_built_from(folder, source):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f".{key}.lock"):
            if not _is_built_from(folder, source):
                _build_whole(folder, source, build)
    except OSError as error:
        raise InputError(
            f"EMBEDLLM_CACHE: cannot write {str(folder)!r} ({error}); set it to a folder that can be written"
        ) from error
    return folder


def _is_built_from(folder: Path, source: Mapping[str, object]) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("source") == dict(source)


def _locked(path: Path) -> FileLock:
    """Take the lock, saying so if another process holds it; it is released when the process ends, however it does."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that is writing %s", path.parent)
        lock.acquire()
    return lock


def _build_whole(folder: Path, source: Mapping[str, object], build: Callable[[Path], Mapping[str, str]]) -> None:
    """Build beside ``folder``, then move it there; an older folder of that name is moved away first."""
    partial = folder.with_name(f".{folder.name}.partial")
    outdated = folder.with_name(f".{folder.name}.outdated")
    for leftover in (partial, outdated):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    notes = build(partial)
    manifest = {"source": dict(source), **notes}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    if folder.exists():
        folder.replace(outdated)
    partial.replace(folder)
    shutil.rmtree(outdated, ignore_errors=True)
