"""Figures of lines: scores before and after the training, and those of the development tasks along it."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from embedllm.report.groups import Group, Table
from embedllm.report.page.series import Colouring
from embedllm.report.page.svg import (
    CHARACTER,
    axes,
    element,
    figure,
    join,
    linear,
    path,
    rulers,
    shortened,
    spread_out,
    text,
    title,
)
from embedllm.report.words import signed

WIDTH = 380.0
LINE = 14.0
"""Height of a line of text."""
LABELLED = 14
"""Lines that have a name each; of more, the five best and the two worst have."""


def slopes(table: Table, colours: Colouring) -> tuple[str, Markup, str] | None:
    """Return title, image and caption of the scores before and after; None without a training."""
    found = []
    for group in table.groups:
        pairs = [(run.mean(table.tasks, "before"), run.mean(table.tasks)) for run in group.runs if run.train]
        whole = [(before, after) for before, after in pairs if before is not None and after is not None]
        if whole:  # both means are over the same runs
            before, after = (math.fsum(scores) / len(whole) for scores in zip(*whole, strict=True))
            found.append((group, before, after))
    if not found:
        return None
    named = found if len(found) <= LABELLED else [*found[:5], *found[-2:]]
    longest = min(27, max(len(group.label) for group, *_ in named) + 6)
    height = float(max(240, 60 + LINE * len(named)))
    left, right = 40.0, WIDTH - CHARACTER * longest - 8
    y = linear([score for _, *scores in found for score in scores], height - 28, 12)
    parts = rulers(y, left, right)
    parts += [text(left, height - 8, "before"), text(right, height - 8, "after", "end")]
    many = " faint" if len(found) > LABELLED else ""
    for group, before, after in found:
        words = title(f"{group.label}: {before:.1f} to {after:.1f} ({signed(after - before)})")
        ends = ((left, y(before)), (right, y(after)))
        dots = [element("circle", cx=a, cy=b, r=3.2, class_=f"dot {colours.of(group)}") for a, b in ends]
        parts.append(element("g", words, path(ends, f"line {colours.of(group)}{many}"), *dots))
    places = spread_out([y(after) for *_, after in named], LINE, (8, height - 26))
    for (group, before, after), place in zip(named, places, strict=True):
        label = f"{shortened(group.label, longest - 6)} {signed(after - before)}"
        parts.append(text(right + 8, place + 4, label, class_=f"series {colours.of(group)}"))
    image = figure(WIDTH, height, "Mean score before and after the training", join(parts))
    gains = [after - before for _, before, after in found]
    caption = f"Mean over {_tasks(table)}, before and after: {signed(min(gains))} to {signed(max(gains))} points."
    return "What the training adds", image, caption


def curves(table: Table, colours: Colouring) -> tuple[str, Markup, str] | None:
    """Return title, image and caption of the development scores along the trainings; None where there are none."""
    found: list[tuple[Group, str, dict[int, float], list[int]]] = []
    for group in table.groups:
        for run in group.runs:
            selection = run.train.get("selection")
            curve = _curve(selection)
            if isinstance(selection, Mapping) and len(curve) > 1:
                found.append((group, run.name, curve, [step for step in _listed(selection, "steps") if step in curve]))
    if not found:
        return None
    x = linear([step for _, _, curve, _ in found for step in curve], 40, 372)
    y = linear([score for _, _, curve, _ in found for score in curve.values()], 212, 22)
    many = " faint" if len(found) > LABELLED else ""
    parts = [axes(x, y, "optimizer steps")]
    for group, name, curve, kept in found:
        points = [(x(step), y(score)) for step, score in curve.items()]
        rings = [
            element("circle", cx=x(step), cy=y(curve[step]), r=3.6, class_=f"ring {colours.of(group)}") for step in kept
        ]
        words = title(f"{group.label} ({name})")
        parts.append(element("g", words, path(points, f"line {colours.of(group)}{many}"), *rings))
    tasks = sorted({task for group in table.groups for run in group.runs for task in _dev_tasks(run.train)})
    caption = f"{', '.join(tasks)}, which are in no mean: one line a run, a ring where weights were kept."
    return "Development curves", figure(380, 250, "Development scores along the training", join(parts)), caption


def _curve(selection: Any) -> dict[int, float]:
    try:
        curve = {int(step): float(score) for step, score in selection["curve"].items()}
    except (KeyError, AttributeError, TypeError, ValueError):
        return {}
    return {step: score for step, score in curve.items() if math.isfinite(score)}


def _dev_tasks(train: Mapping[str, Any]) -> list[str]:
    return [str(task) for task in _listed(train.get("selection"), "tasks")]


def _listed(selection: Any, name: str) -> list[Any]:
    """Return the numbers and texts of a list in ``selection``; none where it is something else."""
    values = selection.get(name) if isinstance(selection, Mapping) else None
    return [value for value in values if isinstance(value, int | str)] if isinstance(values, list) else []


def _tasks(table: Table) -> str:
    return table.tasks[0] if len(table.tasks) == 1 else f"{len(table.tasks)} tasks"
