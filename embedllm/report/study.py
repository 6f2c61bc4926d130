"""A study as a report sees it: its finished runs, and what else was to become one."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from embedllm.eval.specs import task_name
from embedllm.runs import RunFolder

STATES = ("running", "failed", "unfinished", "unreadable", "missing")


@dataclass(frozen=True)
class Run:
    """A finished run, or one that has no result."""

    folder: RunFolder
    state: str = "done"
    """``done``, or one of :data:`STATES`."""
    reason: str = ""
    """Why it is not done, in one line."""
    config: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    """What a run without a folder is called."""

    @property
    def name(self) -> str:
        """Of its folder, if it has one."""
        return self.title or self.folder.path.name

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.state == "done"

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """The entries of its result by task."""
        found: Mapping[str, Mapping[str, Any]] = self.result.get("tasks", {})
        return found

    @cached_property
    def documents(self) -> dict[str, str]:
        """What identifies the documents of each score, by task, as text."""
        return {task: json.dumps(e["of"], sort_keys=True, default=str) for task, e in self.tasks.items() if "of" in e}

    @property
    def asked(self) -> list[str]:
        """The tasks that its settings ask for; its result may hold others."""
        entries = self.evaluation.get("tasks")
        return [task_name(entry) for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """Its settings of ``eval``."""
        return _mapping(self.config.get("eval"))

    @property
    def training_steps(self) -> int | None:
        """What its settings ask for; None where they are not known."""
        steps = _mapping(self.config.get("trainer")).get("max_steps")
        return steps if isinstance(steps, int) else None

    @property
    def train(self) -> Mapping[str, Any]:
        """What its result says of the training; empty without one."""
        return _mapping(self.result.get("train"))

    @property
    def versions(self) -> Mapping[str, Any]:
        """Versions of Python and packages."""
        return _mapping(self.result.get("versions"))

    def score(self, task: str, key: str = "main_score") -> float | None:
        """Return the score of a task, or with ``before`` as the key that before the training; None if there is none."""
        return _finite(self.tasks.get(task, {}).get(key))

    def mean(self, tasks: Iterable[str], key: str = "main_score") -> float | None:
        """Return the mean over ``tasks``; None if one of them has no score."""
        scores = [self.score(task, key) for task in tasks]
        known = [score for score in scores if score is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(scores) else None

    def gain(self, task: str, bound: str) -> float | None:
        """Return ``low`` or ``high`` of the interval of what the training adds to the score of a task."""
        return _finite(_mapping(self.tasks.get(task, {}).get("gain")).get(bound))

    def cost(self, name: str) -> float | None:
        """Return a number of the training: ``seconds``, ``trainable_parameters``, ``peak_memory_gb``."""
        return _finite(self.train.get(name))


@dataclass(frozen=True)
class Study:
    """A folder of runs."""

    path: Path
    runs: tuple[Run, ...]
    """Finished ones, by name."""
    absent: tuple[Run, ...]
    """Those without a result."""
    scans: tuple[str, ...] = ()
    """Folders of scans, which are ranked elsewhere."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Folders that are left out, and the folder that holds the same run."""
    damaged: tuple[str, ...] = ()
    """A sentence for each plan that cannot be read."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.resolve().name

    @property
    def tasks(self) -> list[str]:
        """The tasks that a mean is over: all that a run was asked for."""
        asked = list(dict.fromkeys(task for run in self.runs for task in run.asked))
        return asked or self.others

    @property
    def others(self) -> list[str]:
        """Tasks that a result holds and no settings ask for."""
        asked = {task for run in self.runs for task in run.asked}
        return [task for task in dict.fromkeys(t for run in self.runs for t in run.tasks) if task not in asked]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
