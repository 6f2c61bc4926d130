"""The scores of the development tasks along a training, as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedllm.report.figures import save_figure


def draw_curve(selection: Mapping[str, Any], path: Path) -> None:
    """Write a plot of the mean score at each evaluation, the weights that were kept marked.

    Args:
        selection: as in ``result.json``: ``curve`` (step to score), ``steps`` that were kept, ``score`` and ``tasks``.
        path: of the figure; its suffix decides the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    curve = {int(step): score for step, score in selection["curve"].items()}
    axis.plot(list(curve), list(curve.values()), color="#0072b2", marker="o", markersize=4, linewidth=1.5)
    kept = [step for step in selection["steps"] if step in curve]
    name = "average of these" if len(kept) > 1 else "kept"
    axis.plot(
        kept,
        [curve[step] for step in kept],
        linestyle="none",
        marker="o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor="#d55e00",
        markeredgewidth=2,
        label=f"{name}: {selection['score']:.1f}",
    )
    if 0 in curve:
        axis.axhline(curve[0], color="#8c8c8c", linewidth=1, linestyle=":", label=f"untrained: {curve[0]:.1f}")
    axis.set_xlabel("optimizer steps")
    axis.set_ylabel("mean score" if len(selection["tasks"]) > 1 else selection["tasks"][0])
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    save_figure(figure, path)
