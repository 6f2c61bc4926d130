"""Reads the folder of a study.

A result is the unit of truth. What has none is running (a process holds its lock), failed (there is an ``error.txt``),
unfinished (there are settings), unreadable (the result is damaged) or missing (there is a plan, and nothing else).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from embedllm.errors import InputError
from embedllm.report.plan import Planned, planned
from embedllm.report.study import Run, Study
from embedllm.run_lock import holder
from embedllm.runs import RunFolder, decisive

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_study(path: Path, plan: Callable[[Path], tuple[Iterable[Planned], Iterable[str]]] = planned) -> Study:
    """Read the folder of a study; what is wrong with one of its runs is no reason not to read the others.

    Raises:
        InputError: there is no such folder, or no run in it.
    """
    if not path.is_dir():
        raise InputError(f"STUDY: there is no folder {str(path)!r}; give that of a study, such as runs/mine")
    if (path / "result.json").is_file():
        raise InputError(f"STUDY: {str(path)!r} is a run; give the folder that it is in, {str(path.parent)!r}")
    runs, scans = [], []
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        if (run := _read(RunFolder(folder))) is not None:
            runs.append(run)
        elif RunFolder(folder).scan.is_file():
            scans.append(folder.name)
    known = {*scans, *(run.name for run in runs)}
    jobs, damaged = plan(path)
    for job in (job for job in jobs if job.name not in known):
        state = "failed" if job.error else "missing"
        runs.append(Run(RunFolder(path / job.name), state, job.error, job.config, job.choices, title=job.name))
    if not runs:
        ranked = "1 scan, which is" if len(scans) == 1 else f"{len(scans)} scans, which are"
        what = f"{ranked} ranked in ranking.csv, and no run" if scans else "no run"
        raise InputError(f"STUDY: {str(path)!r} holds {what}; give the folder of a study, such as runs/mine")
    copies = _copies(runs)
    done = tuple(run for run in runs if run.done and run.name not in copies)
    return Study(path, done, tuple(run for run in runs if not run.done), tuple(scans), copies, tuple(damaged))


def _read(folder: RunFolder) -> Run | None:
    damage = None
    try:
        return _checked(folder, json.loads(folder.result.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except OSError as error:
        damage = f"result.json cannot be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        damage = "result.json is no JSON" if not isinstance(error, _Damaged) else f"result.json {error}"
    seen = holder(folder.lock)
    if seen is not None and not folder.scan.is_file():
        return Run(folder, "running", f"a process on {seen.host} is at work on it", **_settings(folder))
    if damage is not None:
        return Run(folder, "unreadable", damage, **_settings(folder))
    if folder.error.is_file():
        return Run(folder, "failed", _last_line(folder.error), **_settings(folder))
    if folder.config.is_file() and not folder.scan.is_file():
        return Run(folder, "unfinished", "it has settings and no result yet", **_settings(folder))
    return None


class _Damaged(ValueError):
    pass


def _checked(folder: RunFolder, result: Any) -> Run:
    """Return the run of a result that has all that a report reads."""
    for name in ("config", "choices", "tasks"):
        if not isinstance(result, Mapping) or not isinstance(result.get(name), Mapping):
            raise _Damaged(f"has no {name!r}")
    try:
        decisive(result["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"lacks settings ({error})") from error
    if not all(isinstance(entry, Mapping) for entry in result["tasks"].values()):
        raise _Damaged("has tasks without scores")
    choices = {str(group): str(option) for group, option in result["choices"].items()}
    return Run(folder, "done", "", result["config"], choices, result)


def _settings(folder: RunFolder) -> dict[str, Any]:
    """Return settings and choices of a run without a result, as far as its folder says them."""
    try:
        config = yaml.load(folder.config.read_text(encoding="utf-8"), Loader)
        decisive(config)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}
    pooling, _, rest = folder.path.name.partition("-")
    return {"config": config, "choices": {"pooling": pooling, "prompt": rest.rpartition("-")[0]}}


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"error.txt cannot be read ({error.strerror})"
    return lines[-1].strip() if lines else "error.txt is empty"


def _copies(runs: Iterable[Run]) -> dict[str, str]:
    """Return the folders that hold a run a second time; the one with the run's own name is kept."""
    first: dict[str, Run] = {}
    copies = {}
    for run in sorted(runs, key=lambda run: not run.name.endswith(str(run.result.get("run_id")))):
        identity = run.result.get("run_id") if run.done else None
        if identity and str(identity) in first:
            copies[run.name] = first[str(identity)].name
        elif identity:
            first[str(identity)] = run
    return copies
