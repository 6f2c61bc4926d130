"""What loggers are told of a run or a scan: settings to group by, tags, the numbers to sort by, and figures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embedllm.report.tables import flatten
from embedllm.runs import RunFolder
from embedllm.tracking import Identity

Settings = Mapping[str, Any]
Numbers = dict[str, float | int | None]

ASIDE = ("logger", "dry_run")
"""Settings that say nothing of the run."""
TAGGED = ("pooling", "prompt", "model", "suite")
"""Groups whose options become tags."""
COSTS = {
    "seconds": "seconds",
    "tokens": "tokens",
    "trainable_parameters": "trained_parameters",
    "peak_memory_gb": "peak_memory_gb",
}
"""What a training costs: the name in ``result.json``, and that among the numbers."""


def identity(plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> Identity:
    """Return what a dashboard files the run under."""
    scans = bool(plain["scan"]["poolings"])
    job_type = "scan" if scans else "train" if plain["trainer"]["max_steps"] > 0 else "score"
    groups = [group for group in TAGGED if not (scans and group == "pooling")]
    return Identity(folder, plain["study"], job_type, [choices[group] for group in groups if group in choices])


def settings(plain: Settings, choices: Mapping[str, str], folder: RunFolder) -> dict[str, Any]:
    """Return the settings in one level: the option of each group by the group's name, values as ``loss/temperature``.

    Names hold no dots, which W&B takes for levels where panels are grouped or runs are filtered.
    """
    flat = {name.replace(".", "/"): value for name, value in flatten(plain).items() if not name.startswith(ASIDE)}
    chosen = {group: option for group, option in choices.items() if group not in ASIDE}
    return {**flat, **chosen, "run": folder.path.name, "run_id": folder.path.name.rpartition("-")[2]}


def summary(result: Settings) -> Numbers:
    """Return the numbers of a run: scores before and after its training, what it cost, and what its vectors are like.

    Costs are those of the training: 0 for a model that is scored as it is. A number that is not known is left out.
    """
    return {name: value for name, value in _numbers(result) if value is not None}


def _numbers(result: Settings) -> Iterator[tuple[str, Any]]:
    yield "score", result["score"]
    yield "score_before", result["score_before"]
    yield "gain", _difference(result["score"], result["score_before"])
    for name, task in result["tasks"].items():
        yield f"eval/{name}", task.get("main_score")
        yield f"before/{name}", task.get("before")
        yield f"gain/{name}", _difference(task.get("main_score"), task.get("before"))
    train = result["train"] or {"seconds": 0, "tokens": 0, "trainable_parameters": 0}
    for name, shown in COSTS.items():
        yield f"cost/{shown}", train.get(name)
    for name, value in train.items():
        if name not in COSTS and isinstance(value, (int, float)):
            yield f"train/{name}", value
    selection = train.get("selection") or {}
    yield "dev/score", selection.get("score")
    yield "dev/step", max(selection["steps"]) if selection else None
    for stage, found in result.get("intrinsic", {}).items():
        for name, value in found.items():
            yield f"intrinsic/{stage}/{name}", value


def cell_numbers(cell: Settings) -> dict[str, float]:
    """Return the scores of a cell of a scan; its depth is their step."""
    head = cell["pooling"] if cell["pool_over"] == "all" else f"{cell['pooling']}-{cell['pool_over']}"
    place = f"scan/{head}{'-centred' if cell['centring'] else ''}"
    return {f"{place}/{name}": task["main_score"] for name, task in cell["tasks"].items() if "main_score" in task}


def scan_summary(result: Settings) -> dict[str, Any]:
    """Return the numbers of a scan: how many cells it has, and the best one with its scores."""
    known = [cell for cell in result["cells"] if cell["score"] is not None]
    found: dict[str, Any] = {"cells": len(result["cells"])}
    if known:
        best = max(known, key=lambda cell: float(cell["score"]))
        found |= {f"best/{name}": best[name] for name in ("pooling", "pool_over", "layers", "centring")}
        found |= {f"eval/{name}": task["main_score"] for name, task in best["tasks"].items()}
        found["score"] = best["score"]
    return found


def figures(folder: RunFolder) -> list[Path]:
    """Return the figures that lie in the folder of a run: the development curve, and what was drawn there."""
    return sorted(path for path in folder.path.glob("*") if path.suffix in (".png", ".svg", ".pdf"))


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
