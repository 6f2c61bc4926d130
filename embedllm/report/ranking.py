"""The cells of one or more scans, best first: a table, a csv file, and the winner as an overlay for other runs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from embedllm.report.tables import aligned

SHOWN = 10

Scan = Mapping[str, Any]


@dataclass(frozen=True)
class Ranked:
    """One cell with the scan that it is of."""

    scan: Scan
    cell: Mapping[str, Any]

    @property
    def score(self) -> float:
        """The mean over the tasks."""
        return float(self.cell["score"])

    @property
    def settings(self) -> dict[str, Any]:
        """What tells it from other cells."""
        names = ("pooling", "pool_over", "layers", "centring")
        return {**{name: self.scan["choices"].get(name) for name in ("model", "prompt")}, **_picked(self.cell, names)}

    @property
    def tasks(self) -> dict[str, float]:
        """The score of each task."""
        return {name: entry["main_score"] for name, entry in self.cell["tasks"].items()}


def rank(scans: Sequence[Scan]) -> list[Ranked]:
    """Return all cells with a score for every task, best first."""
    cells = [Ranked(scan, cell) for scan in scans for cell in scan["cells"] if cell["score"] is not None]
    return sorted(cells, key=lambda cell: -cell.score)


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
        settings = [str(cell.settings[name]).lower() for name in varying]
        table.append([str(place), *settings, *(f"{score:.1f}" for score in scores)])
    return aligned(table, left=1 + len(varying))


def ranking_csv(ranked: Sequence[Ranked]) -> str:
    """Return all cells as csv, best first, with the score of each task and their mean."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*ranked[0].settings, *ranked[0].tasks, "score"])
    for cell in ranked:
        scores = [f"{score:.4f}" for score in (*cell.tasks.values(), cell.score)]
        writer.writerow([*(str(value).lower() for value in cell.settings.values()), *scores])
    return text.getvalue()


def winner_overlay(ranked: Sequence[Ranked], tasks: str) -> str:
    """Return the best cell as the text of an experiment, to be chosen with ``experiment=winner``.

    Args:
        ranked: cells, best first.
        tasks: what describes the tasks of their scores.
    """
    best, config = ranked[0], ranked[0].scan["config"]
    choices = best.scan["choices"]
    overrides = [{"override /pooling": best.cell["pooling"]}]
    model = _picked(config["model"], ("name", "final_norm", "attention", "max_length"))
    settings: dict[str, Any] = {
        "model": {**model, "layers": best.cell["layers"]},
        "pooling": {"pool_over": best.cell["pool_over"]},
        "centring": best.cell["centring"],
    }
    if choices["prompt"] == "custom":
        settings["prompt"] = dict(config["prompt"])
    else:
        overrides.insert(0, {"override /prompt": choices["prompt"]})
    comment = f"# The best of {len(ranked)} ways to make vectors: {best.score:.1f}, the mean of {tasks}"
    return f"# @package _global_\n{comment}\n" + yaml.safe_dump({"defaults": overrides, **settings}, sort_keys=False)


def _is_plain(cell: Ranked) -> bool:
    settings = cell.settings
    deepest = max(other["layers"] for other in cell.scan["cells"])
    as_it_comes = (settings["prompt"], settings["pooling"], settings["pool_over"], settings["centring"])
    return as_it_comes == ("none", "mean", "all", False) and settings["layers"] == deepest


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
    paths["ranking"].write_text(ranking_csv(ranked), encoding="utf-8")
    paths["winner"].write_text(winner_overlay(ranked, tasks), encoding="utf-8")
    draw_heat_map(ranked, paths["heat map"])
    return paths
