"""Run folders: their names, the marker that a run is done, and files that are either whole or not there.

``runs/<study>/<pooling>-<prompt>-<hash8>/`` holds ``config.yaml``, ``metrics.csv``, ``model/`` and, written last,
``result.json``. Started again, a run with a ``result.json`` is skipped; ``error.txt`` marks one that failed.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedllm.errors import InputError
from embedllm.run_lock import Held, RunLock

ALWAYS = ("model", "prompt", "pooling", "seed")
"""Settings that decide the weights of every run."""

TRAINED = ("adapter", "data", "loss", "optimizer")
"""Settings that decide them if there is a training."""

ASIDE = (
    "micro_batch_tokens",
    "checkpoint_every",
    "devices",
    "eval_every",
    "gradient_checkpointing",
    "compile",
    "snapshots",
)
"""Settings of the trainer that do not decide the weights, or only where :data:`SELECTING` says so."""

SELECTING = ("dev", "dev_documents", "average", "patience")
"""Settings of the evaluation that decide which weights of a training are kept."""

TEMPORARY = re.compile(r"\..+\.(\d+)\.(tmp|partial|new|old)")
"""Names of files and folders that are moved into place when they are whole; the number is that of the process."""


class Busy(InputError):
    """Another process is at work on the run."""


def run_id(config: Mapping[str, Any]) -> str:
    """Return eight hex digits that depend on what decides the weights, and on nothing else.

    Null values are dropped, so that a new setting whose default is null changes no id.

    Args:
        config: all settings, files of data and adapters replaced by the SHA-256 of what they hold.
    """
    text = json.dumps(_canonical(decisive(config)), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide the weights of a run, and no others: without a training, none of one."""
    decides = {name: config[name] for name in ALWAYS}
    if config.get("centring"):
        decides["centring"] = True
    decides["trainer"] = {"max_steps": config["trainer"]["max_steps"]}
    if config["trainer"]["max_steps"] > 0:
        decides |= {name: config[name] for name in TRAINED}
        decides["trainer"] = {name: value for name, value in config["trainer"].items() if name not in ASIDE}
        if selects(config):
            decides["selection"] = {name: config["eval"].get(name) for name in SELECTING}
            decides["selection"]["eval_every"] = config["trainer"]["eval_every"]
    elif config["adapter"]["path"] is not None:
        decides["adapter"] = config["adapter"]
    return decides


def selects(config: Mapping[str, Any]) -> bool:
    """Return whether a development set decides which weights are kept."""
    evaluation = config.get("eval") or {}
    return bool(evaluation.get("dev")) and bool(evaluation.get("select", True))


def _canonical(value: Any) -> Any:
    """Drop nulls, and write 1.0 as 1, because an open group keeps the type that was typed."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; nobody else builds these paths."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Everything that was logged."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """What a resumed training starts from; removed when the run is done."""
        return self.path / "checkpoints"

    def scores(self, stage: str) -> Path:
        """The scores of a stage (``before`` or ``after`` the training) so far; removed when the run is done."""
        return self.path / f"{stage}.json"

    @property
    def dev(self) -> Path:
        """The scores of the development tasks so far; with the checkpoints, as it makes no sense without them."""
        return self.checkpoints / "dev.json"

    @property
    def dev_curve(self) -> Path:
        """A plot of the scores of the development tasks."""
        return self.path / "dev_curve.png"

    def evidence(self, stage: str, task: str) -> Path:
        """What is kept of a clustering besides its score."""
        return self.path / "evidence" / stage / f"{task}.npz"

    @property
    def export(self) -> Path:
        """The model as a folder for sentence-transformers, if it was asked for."""
        return self.path / "export"

    @property
    def model(self) -> Path:
        """What ``Embedder.load`` reads."""
        return self.path / "model"

    def snapshot(self, step: int) -> Path:
        """The model as it was after a step of the training, which ``Embedder.load`` reads too."""
        return self.path / "steps" / f"{step:06d}"

    def snapshots(self) -> dict[int, Path]:
        """Return what is kept of the training, by its step, in order."""
        folders = (self.path / "steps").glob("[0-9]*")
        return {int(folder.name): folder for folder in sorted(folders)}

    @property
    def result(self) -> Path:
        """The scores; its presence says that the run is done."""
        return self.path / "result.json"

    @property
    def scan(self) -> Path:
        """The scores of a scan, which has no ``result.json``."""
        return self.path / "scan.json"

    @property
    def error(self) -> Path:
        """Why the last attempt failed."""
        return self.path / "error.txt"

    @property
    def lock(self) -> Path:
        """Is there while a process is at work on the run."""
        return self.path / ".lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other processes off it; what killed ones left half written is removed first.

        A process that ends, however it does, leaves a lock that the next one takes over. A folder that is still empty
        at the end is removed.

        Raises:
            Busy: another process has the lock.
            InputError: the folder cannot be made or written to.
        """
        self.create()
        lock = RunLock(self.lock)
        try:
            lock.acquire()
        except Held as error:
            raise Busy(
                f"RUN: {str(self.path)!r}: another process is at work on this run; wait for it or stop it"
            ) from error
        except OSError as error:
            raise InputError(f"runs_dir: the folder {str(self.path)!r} cannot be locked ({error.strerror})") from error
        try:
            clear_leftovers(self.path)
            yield
        finally:
            lock.release()
            with suppress(OSError):  # there is something in it
                self.path.rmdir()

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: if it cannot be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"runs_dir: the folder {str(self.path)!r} cannot be made ({error.strerror})") from error
        if not os.access(self.path, os.W_OK):
            raise InputError(f"runs_dir: the folder {str(self.path)!r} cannot be written to")

    def read_result(self) -> dict[str, Any] | None:
        """Return the result of a finished run; None if there is none, or if it is damaged."""
        try:
            result = json.loads(self.result.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return result if isinstance(result, dict) and "tasks" in result else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json`` in one stroke and take away the mark of an earlier failure."""
        replace_text(self.result, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        self.error.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never a part."""
    replace_bytes(path, text.encode(errors="backslashreplace"))  # names of files may be no UTF-8


def replace_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` as :func:`replace_text` writes text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def apply_umask(folder: Path) -> None:
    """Give the weights below ``folder`` the mode that the umask gives to new files; safetensors makes them private."""
    umask = os.umask(0o077)
    os.umask(umask)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o666 & ~umask)


def clear_leftovers(folder: Path) -> None:
    """Remove below ``folder`` what processes that are no more had not yet moved into place."""
    for path in list(folder.rglob(".*")):
        found = TEMPORARY.fullmatch(path.name)
        if found is None or _works(int(found.group(1))):
            continue
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it was a folder
            path.unlink()


def _works(process: int) -> bool:
    """Return whether another process of this number is there; our own number is that of one in an earlier container."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except PermissionError:  # somebody else's
        return True
    except (OSError, OverflowError):
        return False
    return True
