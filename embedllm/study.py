"""The folder of a study: what its sweeps were to make, and what became of it.

``runs/<study>/plan-<hash8>.json`` names the runs of one sweep and is written before the first of them starts; a study
that several sweeps make has as many plans. What became of a run is read from its own folder.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from embedllm.errors import InputError
from embedllm.run_lock import holder
from embedllm.runs import RunFolder, decisive, replace_text

Settings = Mapping[str, Any]

DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"


@dataclass(frozen=True)
class PlannedRun:
    """One run that a sweep is to make."""

    name: str | None
    """Of its folder; None if its settings are so wrong that it has none."""
    settings: list[str]
    """What was swept over, as ``name=value``."""
    tasks: list[str] = field(default_factory=list)
    """Names of the tasks that it is scored on."""
    kind: str = ""
    """Runs of one kind take about as long as each other: model and steps."""
    error: str | None = None
    """What is wrong with its settings."""
    config: Settings = field(default_factory=dict)
    """All its settings, which place it in the table of a report before it has a folder; none of a scan."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """The option that was chosen in each group."""


@dataclass(frozen=True)
class RunState:
    """What became of a run."""

    name: str
    state: str
    """done | running | failed | missing"""
    detail: str = ""
    """One sentence: the error, where it is running, what is lacking."""
    seconds: float | None = None
    """What the run took, or takes so far."""
    kind: str = ""
    refused: bool = False
    """Its settings are wrong, so it takes no time."""


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    def write_plan(self, words: Sequence[str], runs: Sequence[PlannedRun]) -> Path:
        """Write what a sweep is to make; the same sweep started again replaces its plan.

        Args:
            words: the settings of the sweep, which identify it.
            runs: all that it is to make.
        """
        digest = hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:8]
        path = self.path / f"plan-{digest}.json"
        self.path.mkdir(parents=True, exist_ok=True)
        plan = {"sweep": list(words), "runs": [asdict(run) for run in runs]}
        replace_text(path, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")
        return path

    def plans(self) -> tuple[list[PlannedRun], list[str]]:
        """Return the runs of all plans, each once, and a sentence for each plan that cannot be read."""
        runs: dict[str, PlannedRun] = {}
        damaged = []
        for path in sorted(self.path.glob("plan-*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            try:
                found = [_planned(run) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
            except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                damaged.append(f"{path}: not a plan that can be read; the same sweep started again writes it anew")
                continue
            for run in found:
                key = run.name or " ".join(run.settings)
                tasks = [*(runs[key].tasks if key in runs else []), *run.tasks]
                runs[key] = replace(run, tasks=list(dict.fromkeys(tasks)))
        return list(runs.values()), damaged

    def states(self) -> tuple[list[RunState], list[str]]:
        """Return what became of every run that was planned or is there, and what cannot be read.

        Raises:
            InputError: there is no such study.
        """
        if not self.path.is_dir():
            raise InputError(
                f"STUDY: there is no folder {str(self.path)!r}; give the folder of a study, as in runs/mine"
            )
        planned, damaged = self.plans()
        names = {run.name for run in planned}
        folders = sorted({path.parent for name in RUN_FILES for path in self.path.glob(f"*/{name}")})
        others = [PlannedRun(folder.name, []) for folder in folders if folder.name not in names]
        if not planned and not others and not damaged:
            raise InputError(f"STUDY: {str(self.path)!r} holds no runs and no plan of a sweep")
        return [self._state(run) for run in (*planned, *others)], damaged

    def _state(self, run: PlannedRun) -> RunState:
        if run.name is None:
            return RunState(" ".join(run.settings), FAILED, run.error or "", kind=run.kind, refused=True)
        return state_of(RunFolder(self.path / run.name), run)


def _planned(run: Settings) -> PlannedRun:
    """Return a run of a plan.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none.
    """
    made = PlannedRun(**run)
    texts = [made.name or "", made.kind, made.error or "", *made.settings, *made.tasks]
    if not all(isinstance(text, str) for text in (*texts, *made.choices, *made.choices.values())):
        raise ValueError("it is not made of texts")
    if made.config or not isinstance(made.config, Mapping):
        decisive(made.config)
    return made


RUN_FILES = ("result.json", "scan.json", "config.yaml", "error.txt", ".lock")
"""A folder with one of these is that of a run."""


def state_of(folder: RunFolder, run: PlannedRun) -> RunState:
    """Return what became of a run; nothing is imported and nothing waited for."""
    name, result = folder.path.name, folder.read_result() or _scan(folder)
    kind = run.kind or (_kind(result) if result else "")
    if (seen := holder(folder.lock)) is not None:
        began = seen.owner.since if seen.owner else None
        process = f"process {seen.owner.process} " if seen.owner else ""
        where = f"{process}on {seen.host}"
        return RunState(name, RUNNING, where, max(0.0, time.time() - began) if began else None, kind)
    if result is not None:
        with suppress(AttributeError, TypeError):  # it is JSON, and no result
            return _finished(name, result, run.tasks, kind)
    if (error := read_error(folder)) is not None:
        return RunState(name, FAILED, error, kind=kind)
    try:
        damaged = folder.result.exists()
    except OSError as found:
        return RunState(name, FAILED, f"its folder cannot be read ({found.strerror})", kind=kind)
    if damaged:
        return RunState(name, MISSING, "result.json is damaged; started again, the run is made anew", kind=kind)
    if folder.path.is_dir():
        return RunState(name, MISSING, "stopped before it was done; started again, it goes on", kind=kind)
    return RunState(name, MISSING, kind=kind)


def _finished(name: str, result: Settings, asked: Sequence[str], kind: str) -> RunState:
    errors = [f"{task}: {entry['error']}" for task, entry in result["tasks"].items() if "error" in entry]
    if errors:
        return RunState(name, FAILED, errors[0], kind=kind)
    if lacking := [task for task in asked if task not in result["tasks"]]:
        return RunState(name, MISSING, f"not scored on {', '.join(lacking)}", kind=kind)
    seconds = result.get("seconds")
    return RunState(name, DONE, seconds=seconds if isinstance(seconds, int | float) else None, kind=kind)


def read_error(folder: RunFolder) -> str | None:
    """Return why the last attempt failed, in one sentence; None if it did not. Of a traceback, it is the last line."""
    with suppress(OSError):
        lines = folder.error.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return (lines[-1] if lines and lines[0].startswith("Traceback") else " ".join(lines)).strip()
    return None


def time_left(states: Iterable[RunState]) -> float | None:
    """Return the seconds until all runs are done, as many at a time as are running now; None if it cannot be told.

    A run takes what the finished ones of its kind took, in the median, or all finished ones where there are none.
    """
    states = list(states)
    known = [state for state in states if state.state == DONE and state.seconds is not None]
    left = 0.0
    for state in states:
        if state.state != DONE and not state.refused:
            alike = [other.seconds for other in known if other.kind == state.kind] or [one.seconds for one in known]
            if not alike:
                return None
            whole = statistics.median(seconds for seconds in alike if seconds is not None)
            left += max(0.0, whole - (state.seconds or 0.0)) if state.state == RUNNING else whole
    return left / max(1, sum(state.state == RUNNING for state in states))


def kind_of(config: Settings) -> str:
    """Return what about settings decides most of what a run takes."""
    return f"{config['model']['name']}, {config['trainer']['max_steps']} steps"


def _kind(result: Settings) -> str:
    try:
        return kind_of(result["config"])
    except (KeyError, TypeError):
        return ""


def _scan(folder: RunFolder) -> dict[str, Any] | None:
    """Return a complete scan with the entries of its tasks as a run has them."""
    try:
        scan = json.loads(folder.scan.read_text(encoding="utf-8"))
        if not scan["complete"]:
            return None
        tasks: dict[str, Any] = {}
        for cell in scan["cells"]:  # one without a score stands for all
            tasks |= {name: entry for name, entry in cell["tasks"].items() if "error" not in tasks.get(name, {})}
        return {**scan, "tasks": tasks}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
