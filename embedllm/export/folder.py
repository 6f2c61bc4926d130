"""A folder that is there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from embedllm.errors import InputError


@contextmanager
def whole_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when all went well, and is removed otherwise.

    Args:
        target: must not exist, or be an empty folder, unless ``replace``. Folders above it are made.
        replace: a folder that is there stays until the new one is whole, and then makes room for it.

    Raises:
        InputError: ``target`` is taken, or its parent cannot be written.
        OSError: the disk is full, or fails in another way.
    """
    target = target.expanduser().resolve()
    if not replace:
        _check_free(target)
    made = [parent for parent in target.parents if not parent.exists()]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        _make(temporary, target)
        yield temporary
        _move(temporary, target)
    except OSError as error:
        error.filename = error.filename or str(target)
        raise
    except SafetensorError as error:  # how it reports a failed write
        raise OSError(errno.EIO, str(error).rstrip("."), str(target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.exists():
            for parent in made:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def _check_free(target: Path) -> None:
    if target.is_dir():
        if any(target.iterdir()):
            raise InputError(f"DIR: the folder {str(target)!r} is not empty; give a new one")
    elif target.exists():
        raise InputError(f"DIR: {str(target)!r} is a file; give a new folder")


def _move(folder: Path, target: Path) -> None:
    """Move ``folder`` to ``target``; a folder that is there is removed afterwards."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    try:
        folder.replace(target)
    except OSError:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _make(temporary: Path, target: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"DIR: the folder {str(target)!r} cannot be made ({error.strerror})") from error
