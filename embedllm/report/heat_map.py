"""A heat map of scans: prompts down, layers (or heads) across, one panel for each head, raw and centred."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.report.figures import save_figure
from embedllm.report.ranking import Ranked

Grid = npt.NDArray[np.float64]


def draw_heat_map(ranked: Sequence[Ranked], path: Path, tasks: str) -> None:
    """Write the figure; its suffix decides the format.

    With several depths, a panel is a head with what it pools over, and layers go across. With one, heads go across.
    A row is a prompt, with what else tells one scan from another, in the order of its best cell. The best cell has
    a frame.

    Args:
        ranked: cells, best first.
        path: of the figure.
        tasks: what describes the tasks of the scores.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in ranked[0].base if len({str(cell.base[name]) for cell in ranked}) > 1]
    settings = [_named(cell.settings, names) for cell in ranked]
    across, panel = ("layers", "head") if len({row["layers"] for row in settings}) > 1 else ("head", "layers")
    rows = list(dict.fromkeys(row["row"] for row in settings))
    columns = sorted({row[across] for row in settings})
    panels = sorted({row[panel] for row in settings})
    centrings = sorted({row["centring"] for row in settings})
    grids = {(one, centring): np.full((len(rows), len(columns)), np.nan) for one in panels for centring in centrings}
    for row, cell in zip(settings, ranked, strict=True):
        place = rows.index(row["row"]), columns.index(row[across])
        grid = grids[row[panel], row["centring"]]
        if np.isfinite(grid[place]):
            raise ValueError(f"two cells have the settings {row}")
        grid[place] = cell.score
    low, high = ranked[-1].score, ranked[0].score

    width = 1.9 + 0.25 * max(map(len, rows)) / 3 + len(centrings) * (0.55 * len(columns) + 0.3)
    figure = Figure(figsize=(width + 1, 1 + len(panels) * (0.34 * len(rows) + 0.9)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), len(centrings), squeeze=False, sharex=True, sharey=True)
    for i, one in enumerate(panels):
        for j, centring in enumerate(centrings):
            image = _draw_panel(axes[i, j], grids[one, centring], (low, high), rows, columns)
            title = "centred" if centring else "raw"
            axes[i, j].set_title(f"{one}, {title}" if panel == "head" else title, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("layer" if across == "layers" else "pooling", fontsize=10)
    title = f"{ranked[0].scan['study']}: {tasks}"
    figure.suptitle(textwrap.fill(title, int(11 * (width + 1))), fontsize=10)  # 11 characters an inch
    figure.colorbar(image, ax=axes, shrink=0.6, label=_scores_of(ranked))
    save_figure(figure, path)


def _draw_panel(axis: Any, grid: Grid, limits: tuple[float, float], rows: Sequence[str], columns: Sequence[Any]) -> Any:
    image = axis.imshow(grid, cmap="viridis", vmin=limits[0], vmax=limits[1], aspect="auto")
    turned = max(len(str(column)) for column in columns) > 4
    axis.set_xticks(range(len(columns)), [str(column) for column in columns], rotation=40 if turned else 0)
    if turned:
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right")
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0, labelsize=9)
    equal = limits[0] + 0.45 * (limits[1] - limits[0])  # black and white are as easy to read on this colour
    for (row, column), score in np.ndenumerate(grid):
        if np.isfinite(score):
            best = score == limits[1]
            colour = "black" if score > equal else "white"
            weight = "bold" if best else "normal"
            axis.text(column, row, f"{score:.1f}", ha="center", va="center", fontsize=8, color=colour, weight=weight)
            if best:
                axis.add_patch(_frame(row, column))
    return image


def _frame(row: int, column: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d55e00", linewidth=2)


def _named(settings: Mapping[str, Any], shared: Sequence[str]) -> dict[str, Any]:
    """Return settings with the names of row and head; ``shared`` names what tells one scan from another."""
    over = settings["pool_over"]
    head = settings["pooling"] if over == "all" else f"{settings['pooling']} over {over}"
    base = [f"{name}={settings[name]}" for name in shared if name != "prompt"]
    return {**settings, "head": head, "row": ", ".join([str(settings["prompt"]), *base])}


def _scores_of(ranked: Sequence[Ranked]) -> str:
    tasks = list(ranked[0].tasks)
    return tasks[0] if len(tasks) == 1 else f"mean of {len(tasks)} tasks"
