"""The figure of one text: where the pooled position looks, and what each token does to the vector, stage by stage.

Everything stands over the same tokens, so that a column is a token. Attention is drawn on a logarithmic scale, as most
of it lies on the first token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.analysis.single_text import TextStage
from embedllm.analysis.words import CONTENT, PUNCTUATION, STOP
from embedllm.report.attention_style import KIND_COLOURS, outside, plain, set_title, stage_colours
from embedllm.report.figures import save_figure

Floats = npt.NDArray[np.float64]

LABELS = 60
"""Tokens that are written below the axis; of more, every second, third, ... one."""
LEAST = 1e-3
"""Attention at which the colours begin."""


def draw_text(stages: Sequence[TextStage], path: Path, *, layer: int, heads: bool, title: str) -> None:
    """Write the figure; the suffix of ``path`` decides the format.

    Args:
        stages: of one text.
        path: of the figure.
        layer: whose attention the bars show.
        heads: draw the heads of that layer; else all layers, each as the mean of its heads.
        title: of the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(stages[0].tokens)
    maps = [stage.layer(layer) if heads else stage.rows.weights.mean(axis=1) for stage in stages]
    high = min(2.6, 0.5 + 0.055 * maps[0].shape[0]) if not heads else 0.5 + 0.13 * maps[0].shape[0]
    bars = _bars(stages, layer)
    sizes = [high] * len(stages) + [1.25] * len(bars)
    figure = Figure(figsize=(min(18, max(7.5, 1.8 + 0.36 * count)), sum(sizes) + 1.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sizes), 1, sharex=True, gridspec_kw={"height_ratios": sizes}, squeeze=False)[:, 0]
    for axis, stage, found in zip(axes, stages, maps, strict=False):
        rows = range(1, found.shape[0] + 1) if heads else stage.rows.layers
        image = _draw_map(axis, found, rows, "head" if heads else "layer", stage.label if len(stages) > 1 else "")
    name = f"attention in layer {layer}" if heads else "attention, mean of heads"
    figure.colorbar(image, ax=axes[: len(stages)].tolist(), label=name, pad=0.01, aspect=30, extend="min")
    colours = stage_colours(len(stages))
    for axis, (name, values) in zip(axes[len(stages) :], bars, strict=True):
        _draw_bars(axis, values, colours, name)
        _shade_text(axis, stages[0])
    _label_tokens(axes[-1], stages[0])
    _legends(figure, axes[len(stages)], stages, colours)
    set_title(figure, title)
    save_figure(figure, path)


def _bars(stages: Sequence[TextStage], layer: int) -> list[tuple[str, list[Floats]]]:
    return [
        (f"attention\nlayer {layer}", [stage.layer(layer).mean(axis=0) for stage in stages]),
        ("leave one out\n(distance)", [stage.left_out for stage in stages]),
        ("gradient\nx input", [stage.gradient for stage in stages]),
    ]


def _draw_map(axis: Any, found: Floats, rows: Sequence[int], name: str, title: str) -> Any:
    from matplotlib.colors import LogNorm

    image = axis.imshow(
        np.maximum(found, LEAST / 10), cmap="magma_r", norm=LogNorm(LEAST, 1), aspect="auto", interpolation="nearest"
    )
    step = max(1, -(-len(rows) // 6))
    ticks = list(range(step - 1, len(rows), step))
    axis.set_yticks(ticks, [str(rows[tick]) for tick in ticks])
    axis.set_ylabel(name, fontsize=9)
    axis.tick_params(length=0, labelsize=8)
    axis.tick_params(axis="x", labelbottom=False)
    axis.set_title(title, fontsize=10, loc="left", pad=3, parse_math=False)
    return image


def _draw_bars(axis: Any, values: Sequence[Floats], colours: Sequence[str], name: str) -> None:
    """Draw the values of each stage side by side; where the first token dwarfs the others it runs out of the axis."""
    width = 0.8 / len(values)
    for i, (one, colour) in enumerate(zip(values, colours, strict=True)):
        axis.bar(np.arange(len(one)) + (i + 0.5) * width - 0.4, one, width, color=colour, linewidth=0, zorder=3)
    table = np.nan_to_num(np.array(values))  # (stages, n)
    others = np.abs(table[:, 1:]).max(initial=0)
    if others and np.abs(table[:, 0]).max() > 1.5 * others:
        low, high = min(0, table[:, 1:].min()), max(0, table[:, 1:].max())
        room = 0.15 * (high - low)
        axis.set_ylim(low - room * (low < 0), high + room * (high > 0))
        numbers = "  ".join(f"{value:.2g}" for value in table[:, 0])
        above = table[np.abs(table[:, 0]).argmax(), 0] > 0
        axis.annotate(
            numbers,
            (0, 1 if above else 0),
            xycoords=("data", "axes fraction"),
            xytext=(14, -2 if above else 2),
            textcoords="offset points",
            ha="left",
            va="top" if above else "bottom",
            fontsize=8,
            color="#444444",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
            zorder=5,
        )
    axis.axhline(0, color="black", linewidth=0.6, zorder=4)
    axis.set_ylabel(name, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.tick_params(axis="x", length=0)
    axis.locator_params(axis="y", nbins=4)
    axis.spines[["top", "right"]].set_visible(False)


def _shade_text(axis: Any, stage: TextStage) -> None:
    """Shade the tokens of the text, that the prompt stands around."""
    places = [i for i, kind in enumerate(stage.tokens.kinds) if kind in (CONTENT, STOP, PUNCTUATION)]
    if places:
        axis.axvspan(places[0] - 0.5, places[-1] + 0.5, color="#f2f2f2", linewidth=0, zorder=0)


def _label_tokens(axis: Any, stage: TextStage) -> None:
    count = len(stage.tokens)
    step = -(-count // LABELS)
    places = list(range(0, count, step))
    names = [stage.tokens.pieces[i].replace("\n", "\\n") for i in places]
    axis.set_xticks(places, names, rotation=90 if count > 40 else 50, fontsize=9, parse_math=False)
    axis.set_xlim(-0.5, count - 0.5)
    for label, place in zip(axis.get_xticklabels(), places, strict=True):
        if count <= 40:
            label.set(ha="right", rotation_mode="anchor")
        label.set_color(KIND_COLOURS[stage.tokens.kinds[place]])


def _legends(figure: Any, axis: Any, stages: Sequence[TextStage], colours: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if len(stages) > 1:
        handles = [Patch(color=colour, label=stage.label) for stage, colour in zip(stages, colours, strict=True)]
        plain(axis.legend(handles=handles, fontsize=8, **outside(len(stages))))
    kinds = list(dict.fromkeys(stage_kind for stage_kind in stages[0].tokens.kinds))
    marks = [
        Line2D([], [], linestyle="none", marker="s", markersize=6, color=KIND_COLOURS[kind], label=kind)
        for kind in kinds
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)
