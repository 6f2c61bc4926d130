"""The heat map of a scan."""

from pathlib import Path
from typing import Any

import pytest

from embedllm.report.heat_map import draw_heat_map
from embedllm.report.ranking import rank


def scan(prompt: str, scores: dict[tuple[int, bool], float]) -> dict[str, Any]:
    cells = [
        {
            "pooling": "mean",
            "pool_over": "all",
            "layers": layers,
            "centring": centring,
            "score": score,
            "tasks": {"animals": {"main_score": score}},
        }
        for (layers, centring), score in scores.items()
    ]
    config = {"model": {"name": "m", "layers": None}, "prompt": {"template": prompt}, "adapter": {}, "seed": 0}
    choices = {"prompt": prompt, "model": "m"}
    return {"study": "first", "config": config, "choices": choices, "cells": cells}


def test_every_score_stands_in_its_cell_with_one_decimal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    written: list[tuple[float, float, str]] = []
    titles: list[str] = []
    text, title = Axes.text, Figure.suptitle
    monkeypatch.setattr(Axes, "text", lambda *args, **more: written.append(args[1:4]) or text(*args, **more))
    monkeypatch.setattr(Figure, "suptitle", lambda *args, **more: titles.append(args[1]) or title(*args, **more))
    scans = [
        scan("cluster", {(1, False): 39.96, (2, False): 41.04, (1, True): 40.0, (2, True): 100.0}),
        scan("none", {(1, False): 3.14159, (2, False): 7.0, (1, True): 8.25}),  # one is missing
    ]
    draw_heat_map(rank(scans), tmp_path / "map.png", "custom (1 task, mteb 2.26.24)")
    raw = [(0, 0, "40.0"), (1, 0, "41.0"), (0, 1, "3.1"), (1, 1, "7.0")]
    centred = [(0, 0, "40.0"), (1, 0, "100.0"), (0, 1, "8.2")]
    assert written == raw + centred
    assert " ".join(titles[0].split()) == "first: custom (1 task, mteb 2.26.24)"
    assert (tmp_path / "map.png").stat().st_size > 5_000


def test_a_cell_of_two_scans_is_there_once(tmp_path: Path) -> None:
    """One scan goes deeper than the other, which holds the same layers."""
    scans = [scan("none", {(6, False): 20.0}), scan("none", {(6, False): 20.0, (12, False): 30.0})]
    for one, layers in zip(scans, (6, 12), strict=True):
        one["config"]["model"]["layers"] = layers
    ranked = rank(scans)
    assert [(cell.settings["layers"], cell.score) for cell in ranked] == [(12, 30.0), (6, 20.0)]
    draw_heat_map(ranked, tmp_path / "map.png", "custom")
