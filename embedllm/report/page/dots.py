"""Figures of dots: the score against what it cost, and the effect of each factor."""

from collections.abc import Sequence

from markupsafe import Markup

from embedllm.report.effects import Effect
from embedllm.report.groups import Group, Table
from embedllm.report.page.series import Colouring
from embedllm.report.page.svg import (
    CHARACTER,
    axes,
    element,
    figure,
    join,
    linear,
    logarithmic,
    path,
    shortened,
    text,
    title,
)
from embedllm.report.words import plural

COSTS = (("seconds", "training time in seconds"), ("trainable_parameters", "trained parameters"))
WIDTH = 380.0


def costs(table: Table, colours: Colouring) -> list[tuple[str, Markup, str]]:
    """Return title, image and caption for each cost that differs between the groups."""
    found = [_cost(table, colours, key, label) for key, label in COSTS]
    return [one for one in found if one is not None]


def _cost(table: Table, colours: Colouring, key: str, label: str) -> tuple[str, Markup, str] | None:
    points: list[tuple[Group, float, float]] = []
    for group in table.groups:
        cost, score = group.cost(key), group.cell(table.tasks).mean
        if cost is not None and score is not None:
            points.append((group, cost, score))
    if len({cost for _, cost, _ in points}) < 2:
        return None
    x = logarithmic([cost for _, cost, _ in points], 40, 372)
    y = linear([score for _, _, score in points], 212, 22)
    front = _front(points)
    steps = [(x(front[0][0]), y(front[0][1]))]
    for cost, score in front[1:]:
        steps += [(x(cost), steps[-1][1]), (x(cost), y(score))]
    steps.append((x.end, steps[-1][1]))
    dots = [
        element(
            "circle",
            title(f"{group.label}: {score:.1f} for {cost:,.0f}"),
            cx=x(cost),
            cy=y(score),
            r=4.5,
            class_=f"dot {colours.of(group)}",
        )
        for group, cost, score in points
    ]
    image = figure(WIDTH, 250, f"Mean score against {label}", axes(x, y, label), path(steps, "front"), join(dots))
    caption = "One dot a setting, mean over its seeds; nothing cheaper is better than what lies on the line."
    return f"Score against {label.removesuffix(' in seconds')}", image, caption


def _front(points: Sequence[tuple[Group, float, float]]) -> list[tuple[float, float]]:
    """Return cost and score of the groups that none is better and as cheap as."""
    front: list[tuple[float, float]] = []
    for _, cost, score in sorted(points, key=lambda point: (point[1], -point[2])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def effect_figure(effect: Effect, limits: Sequence[float]) -> tuple[str, Markup, str]:
    """Return title, image and caption; ``limits`` are the scores that the axes of all effects hold."""
    options = list(effect.means)
    longest = min(24, max(map(len, options)))
    left, row = 14 + CHARACTER * longest, 30.0
    foot = 12 + row * len(options)
    x = linear(limits, left, WIDTH - 44)
    parts = [element("path", d=f"M{x(tick):.1f} 6V{foot:.1f}", class_="grid") for tick in x.ticks]
    parts += [text(x(tick), foot + 16, x.name(tick), "middle") for tick in x.ticks]
    for i, option in enumerate(options):
        middle = 12 + row * (i + 0.5)
        parts.append(text(left - 8, middle + 4, shortened(option, longest), "end"))
        parts.append(text(WIDTH - 2, middle + 4, f"{effect.means[option]:.1f}", "end", "strong"))
        scores = effect.scores[option]
        faint = " faint" if len(scores) > 40 else ""
        for k, score in enumerate(scores):
            shift = 5.0 * ((k * 0.618034) % 1 - 0.5) * 2
            parts.append(
                element("circle", title(f"{score:.1f}"), cx=x(score), cy=middle + shift, r=3.0, class_=f"run{faint}")
            )
        mean = x(effect.means[option])
        parts.append(element("path", d=f"M{mean:.1f} {middle - 11:.1f}V{middle + 11:.1f}", class_="mean"))
    image = figure(WIDTH, foot + 24, f"Effect of {effect.name}", join(parts))
    caption = f"{effect.range:.1f} points between the highest and the lowest mean"
    caption += f", over {effect.blocks} combinations of the other columns." if effect.blocks > 1 else "."
    if effect.left_out:
        caption += f" {plural(effect.left_out, 'setting')} without a partner at every value left out."
    return effect.name, image, caption
