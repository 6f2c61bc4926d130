"""The cells of one or more scans, best first: a table, a csv file, and the winner as an overlay for other runs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from embedllm.report.tables import aligned, flatten
from embedllm.runs import replace_text

SHOWN = 10

Scan = Mapping[str, Any]


@dataclass(frozen=True)
class Ranked:
    """One cell with the scan that it is of."""

    scan: Scan
    cell: Mapping[str, Any]
    base: Mapping[str, Any]
    """Settings that the cells of a scan share: model, prompt, and what else differs between scans."""

    @property
    def score(self) -> float:
        """The mean over the tasks."""
        return float(self.cell["score"])

    @property
    def settings(self) -> dict[str, Any]:
        """What tells it from other cells."""
        return {**self.base, **_picked(self.cell, ("pooling", "pool_over", "layers", "centring"))}

    @property
    def tasks(self) -> dict[str, float]:
        """The score of each task."""
        return {name: entry["main_score"] for name, entry in self.cell["tasks"].items()}


def rank(scans: Sequence[Scan]) -> list[Ranked]:
    """Return all cells with a score for every task, best first; each once, if scans to several depths share some."""
    bases = _bases(scans)
    cells = [
        Ranked(scan, cell, base)
        for scan, base in zip(scans, bases, strict=True)
        for cell in scan["cells"]
        if cell["score"] is not None
    ]
    distinct = {str(sorted(cell.settings.items())): cell for cell in cells}
    return sorted(distinct.values(), key=lambda cell: -cell.score)


def same_tasks(scans: Sequence[Scan]) -> bool:
    """Return whether all cells were scored on the same documents."""
    found = [{name: entry.get("of") for name, entry in cell["tasks"].items()} for s in scans for cell in s["cells"]]
    return all(documents == found[0] for documents in found)


def _bases(scans: Sequence[Scan]) -> list[dict[str, Any]]:
    """Return model and prompt of each scan, and the other settings that are not the same in all."""
    flat = [flatten(_picked(scan["config"], ("model", "prompt", "adapter", "seed"))) for scan in scans]
    names = dict.fromkeys(name for settings in flat for name in settings)
    shown = {"model.name", "model.layers", "prompt.template"}
    varying = [name for name in names if len({str(row.get(name)) for row in flat}) > 1 and name not in shown]
    models = [scan["choices"].get("model") for scan in scans]
    if len(set(models)) < len({row.get("model.name") for row in flat}):
        models = [row.get("model.name") for row in flat]
    bases = []
    for scan, settings, model in zip(scans, flat, models, strict=True):
        prompt = scan["choices"].get("prompt")
        base = {"model": model, "prompt": settings["prompt.template"] if prompt == "custom" else prompt}
        bases.append({**base, **{name: settings.get(name) for name in varying}})
    return bases


def ranking_table(ranked: Sequence[Ranked]) -> str:
    """Return the best cells in columns, and the one that stands for a model as it comes: mean, no prompt, raw."""
    rows = list(enumerate(ranked, 1))
    plain = [row for row in rows[SHOWN:] if _is_plain(row[1])]
    shown = [*rows[:SHOWN], *plain[:1]]
    varying = [
        name
        for name in ranked[0].settings
        if len({str(cell.settings[name]) for cell in ranked}) > 1 or name == "prompt"
    ]
    tasks = list(ranked[0].tasks)
    header = ["rank", *varying, *tasks, *(["mean"] if len(tasks) > 1 else [])]
    table = [header]
    for place, cell in shown:
        scores = [*cell.tasks.values(), *([cell.score] if len(tasks) > 1 else [])]
        settings = [_word(cell.settings[name]) for name in varying]
        table.append([str(place), *settings, *(f"{score:.1f}" for score in scores)])
    return aligned(table, left=1 + len(varying))


def ranking_csv(ranked: Sequence[Ranked]) -> str:
    """Return all cells as csv, best first, with the score of each task and their mean."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*ranked[0].settings, *ranked[0].tasks, "score"])
    for cell in ranked:
        scores = [f"{score:.4f}" for score in (*cell.tasks.values(), cell.score)]
        writer.writerow([*map(_word, cell.settings.values()), *scores])
    return text.getvalue()


def winner_overlay(ranked: Sequence[Ranked], tasks: str) -> str:
    """Return the best cell as the text of an experiment, to be chosen with ``experiment=winner``.

    Args:
        ranked: cells, best first.
        tasks: what describes the tasks of their scores.
    """
    best, config = ranked[0], ranked[0].scan["config"]
    overrides = [{"override /pooling": best.cell["pooling"]}]
    if best.scan["choices"]["prompt"] != "custom":
        overrides.insert(0, {"override /prompt": best.scan["choices"]["prompt"]})
    settings: dict[str, Any] = {
        "model": {**config["model"], "layers": best.cell["layers"]},
        "prompt": dict(config["prompt"]),
        "pooling": {"pool_over": best.cell["pool_over"]},
        "centring": best.cell["centring"],
    }
    if config["adapter"]["path"] is not None:
        settings["adapter"] = dict(config["adapter"])
    comment = f"# The best of {len(ranked)} ways to make vectors: {best.score:.1f}, the mean of {tasks}"
    return f"# @package _global_\n{comment}\n" + yaml.safe_dump({"defaults": overrides, **settings}, sort_keys=False)


def _is_plain(cell: Ranked) -> bool:
    settings = cell.settings
    deepest = max(other["layers"] for other in cell.scan["cells"])
    as_it_comes = (settings["prompt"], settings["pooling"], settings["pool_over"], settings["centring"])
    return as_it_comes == ("none", "mean", "all", False) and settings["layers"] == deepest


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _picked(mapping: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: mapping[name] for name in names}


def write(folder: Path, ranked: Sequence[Ranked], tasks: str) -> dict[str, Path]:
    """Write ranking, figure and overlay into the folder of a study; return their paths."""
    from embedllm.report.heat_map import draw_heat_map

    paths = {
        "ranking": folder / "ranking.csv",
        "heat map": folder / "heat_map.png",
        "winner": folder / "experiment" / "winner.yaml",
    }
    paths["winner"].parent.mkdir(parents=True, exist_ok=True)
    replace_text(paths["ranking"], ranking_csv(ranked))
    replace_text(paths["winner"], winner_overlay(ranked, tasks))
    draw_heat_map(ranked, paths["heat map"], tasks)
    return paths
