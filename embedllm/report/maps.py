"""Maps of the documents of a task in two dimensions, coloured by class, before and after a training."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.eval.evidence import Evidence
from embedllm.eval.paired import load_evidence
from embedllm.eval.threads import one_thread
from embedllm.report.figures import save_figure
from embedllm.runs import RunFolder

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#9a8700", "#6a3d9a")
"""Okabe and Ito (2008), the last two darker: eight that colour-blind people tell apart."""
OTHERS = "#c8c8c8"


def draw_map(folder: RunFolder, task: str, entry: Mapping[str, Any], path: Path) -> None:
    """Write a figure of one panel for each stage that the run has evidence of.

    Args:
        folder: of the run.
        task: a clustering.
        entry: the task's entry of ``result.json``.
        path: of the figure; its suffix decides the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = {stage: load_evidence(folder.evidence(stage, task)) for stage in ("before", "after")}
    scores = {"before": entry.get("before"), "after": entry["main_score"]}
    known = {stage: evidence for stage, evidence in stages.items() if scores[stage] is not None}
    panels = [(stage, evidence) for stage, evidence in known.items() if isinstance(evidence, Evidence)]
    figure = Figure(figsize=(5.2 * len(panels), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (stage, evidence) in zip(axes, panels, strict=True):
        _draw_panel(axis, evidence)
        title = f"{stage} training" if len(panels) > 1 else ""
        axis.set_title(f"{title}\nV-measure {scores[stage]:.1f}".strip(), fontsize=12)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, markerscale=2.5, fontsize=10)
    figure.suptitle(_title(task, entry, panels[0][1]), fontsize=13)
    save_figure(figure, path)


def flat(components: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Return t-SNE coordinates (van der Maaten and Hinton, 2008), (N, 2); they depend on ``components`` alone."""
    from sklearn.manifold import TSNE

    points = components.astype(np.float64)
    perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
    with one_thread():
        mapped: npt.NDArray[np.float64] = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    return mapped


def _draw_panel(axis: Any, evidence: Evidence) -> None:
    points = flat(evidence.components)
    size = max(2.0, min(18.0, 9_000 / len(points)))
    common = [label for label, _ in Counter(sorted(evidence.labels.tolist())).most_common()]
    named = common[: len(COLOURS)]
    rest = ~np.isin(evidence.labels, named)
    for label, colour in zip(named, COLOURS, strict=False):
        axis.scatter(*points[evidence.labels == label].T, s=size, c=colour, linewidths=0, label=label, zorder=3)
    if rest.any():
        axis.scatter(*points[rest].T, s=size, c=OTHERS, linewidths=0, label=f"{len(common) - len(named)} others")
    axis.set_axis_off()
    axis.margins(0.02)


def _title(task: str, entry: Mapping[str, Any], evidence: Evidence) -> str:
    title = f"{task}, {len(evidence.labels):,} documents"
    gain = entry.get("gain")
    return title if gain is None else f"{title}: {gain['low']:+.1f} to {gain['high']:+.1f} points (95 % interval)"
