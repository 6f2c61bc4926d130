"""The figure of a corpus: the share of each kind of token in the attention, layer by layer, and in the attributions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.analysis.corpus import CorpusStage, estimate
from embedllm.analysis.tokens import KINDS
from embedllm.report.attention_style import plain, set_title, stage_colours
from embedllm.report.figures import save_figure

Floats = npt.NDArray[np.float64]

ACROSS = 3
"""Panels beside each other."""


def draw_corpus(stages: Sequence[CorpusStage], path: Path, *, layer: int, title: str) -> None:
    """Write the figure; the suffix of ``path`` decides the format.

    A panel a kind: its share in the attention of each layer, a line a stage with the 95 % interval over texts. Below:
    its shares in one layer, in the distances of leaving one token out, and in gradient x input.

    Args:
        stages: of one corpus.
        path: of the figure.
        layer: whose attention the bars show.
        title: of the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [kind for i, kind in enumerate(KINDS) if any(stage.attention[..., i].any() for stage in stages)]
    lines = -(-len(kinds) // ACROSS)
    figure = Figure(figsize=(10.5, 2.3 * lines + 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines + 1, ACROSS, squeeze=False)
    colours = stage_colours(len(stages))
    for axis, kind in zip(axes[:-1].flat, kinds, strict=False):
        _draw_layers(axis, stages, kind, colours)
    for axis in axes[:-1].flat[len(kinds) :]:
        axis.set_axis_off()
    for axis, (name, shares) in zip(axes[-1], _measures(stages, layer), strict=True):
        _draw_bars(axis, shares, kinds, colours, name)
    if len(stages) > 1:
        handles = axes[0, 0].get_lines()
        places = {"loc": "outside lower center", "ncols": min(6, len(stages))}
        plain(figure.legend(handles=handles, frameon=False, fontsize=9, **places))
    set_title(figure, title)
    save_figure(figure, path)


def _measures(stages: Sequence[CorpusStage], layer: int) -> list[tuple[str, list[Floats]]]:
    few = len(stages[0].left_out)
    texts = f"{few} texts" if few else "not asked for"
    return [
        (f"attention, layer {layer}", [stage.layer(layer) for stage in stages]),
        (f"leave one out, {texts}", [stage.left_out for stage in stages]),
        (f"gradient x input, {texts}", [stage.gradient for stage in stages]),
    ]


def _draw_layers(axis: Any, stages: Sequence[CorpusStage], kind: str, colours: Sequence[str]) -> None:
    place = KINDS.index(kind)
    for stage, colour in zip(stages, colours, strict=True):
        mean, low, high = (100 * numbers for numbers in estimate(stage.attention[..., place]))
        axis.plot(stage.layers, mean, color=colour, linewidth=1.5, label=stage.label)
        axis.fill_between(stage.layers, low, high, color=colour, alpha=0.25, linewidth=0)
    axis.set_title(kind, fontsize=10, loc="left", pad=3)
    axis.set_ylim(bottom=0)
    axis.set_xlim(stages[0].layers[0], stages[0].layers[-1])
    axis.set_xlabel("layer", fontsize=9)
    axis.set_ylabel("% of attention", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_bars(axis: Any, shares: Sequence[Floats], kinds: Sequence[str], colours: Sequence[str], name: str) -> None:
    axis.set_title(name, fontsize=10, loc="left", pad=3)
    if not len(shares[0]):
        axis.set_axis_off()
        return
    places = [KINDS.index(kind) for kind in kinds]
    width = 0.8 / len(shares)
    for i, (one, colour) in enumerate(zip(shares, colours, strict=True)):
        mean, low, high = (100 * numbers[places] for numbers in estimate(one))
        x = np.arange(len(kinds)) + (i + 0.5) * width - 0.4
        axis.bar(x, mean, width, color=colour, linewidth=0, zorder=2)
        axis.vlines(x, low, high, color="black", linewidth=0.8, zorder=3)
    axis.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right", rotation_mode="anchor", fontsize=9)
    axis.set_ylabel("%", fontsize=9)
    axis.tick_params(axis="x", length=0)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
