"""The documents of one task in two dimensions, before and after the training, coloured by label."""

from collections import Counter

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from embedllm.eval.evidence import Evidence
from embedllm.eval.paired import load_evidence
from embedllm.report.groups import Table
from embedllm.report.maps import flat
from embedllm.report.page.svg import SERIES, element, figure, join, title
from embedllm.report.study import Run

MOST = 600
"""Documents that are drawn: more are not told apart at this size, and take their time."""
SIDE = 300.0


def map_figures(table: Table) -> tuple[list[tuple[str, Markup, str]], Markup] | None:
    """Return title, image and caption of each stage, and the legend; None where no run kept a clustering."""
    found = _chosen(table)
    if found is None:
        return None
    run, label, task, stages = found
    labels = stages["after"].labels
    common = [name for name, _ in Counter(sorted(labels.tolist())).most_common()]
    classes = {name: f"c{i}" for i, name in enumerate(common[:SERIES])}
    rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:MOST])
    figures = []
    for stage, evidence in stages.items():
        name = f"{stage.capitalize()} the training" if len(stages) > 1 else label
        score = run.score(task, "before" if stage == "before" else "main_score")
        image = _panel(flat(evidence.components[rows]), labels[rows], classes, f"{task}, {stage} the training")
        figures.append((name, image, f"{task}: V-measure {score:.1f}" if score is not None else task))
    keys = [element("span", element("i", class_=f"key {c}"), name) for name, c in classes.items()]
    if len(common) > SERIES:
        keys.append(element("span", element("i", class_="key other"), f"{len(common) - SERIES} other labels"))
    drawn = f"{len(rows):,} of {len(labels):,} documents" if len(rows) < len(labels) else f"{len(labels):,} documents"
    return figures, element("p", element("b", f"{label}; {drawn}"), join(keys), class_="legend")


def _chosen(table: Table) -> tuple[Run, str, str, dict[str, Evidence]] | None:
    """Return the first run that kept a clustering, the best settings first, with both stages if there is such a one."""
    alone = None
    for group in table.groups:
        for run in group.runs:
            for task in table.tasks:
                if (
                    run.tasks.get(task, {}).get("metric") != "v_measure"
                    or not run.folder.evidence("after", task).exists()
                ):
                    continue
                kept = {stage: load_evidence(run.folder.evidence(stage, task)) for stage in ("before", "after")}
                stages = {stage: found for stage, found in kept.items() if isinstance(found, Evidence)}
                if len(stages) == 2 and run.score(task, "before") is not None:
                    return run, group.label, task, stages
                if "after" in stages and alone is None:
                    alone = run, group.label, task, {"after": stages["after"]}
    return alone


def _panel(
    points: npt.NDArray[np.float64], labels: npt.NDArray[np.str_], classes: dict[str, str], label: str
) -> Markup:
    low, high = points.min(axis=0), points.max(axis=0)
    places = 8 + (SIDE - 16) * (points - low) / np.maximum(high - low, 1e-9)
    size = 3.4 if len(points) < 300 else 2.6
    order = sorted(range(len(points)), key=lambda i: str(labels[i]) in classes)
    dots = [
        element(
            "circle",
            title(str(labels[i])),
            cx=float(places[i, 0]),
            cy=float(places[i, 1]),
            r=size,
            class_=f"doc {classes.get(str(labels[i]), 'other')}",
        )
        for i in order
    ]
    return figure(SIDE, SIDE, label, join(dots))
