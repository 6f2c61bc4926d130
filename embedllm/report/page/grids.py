"""The heat map of a study: the mean of all settings that share the values of two columns."""

import math

from markupsafe import Markup

from embedllm.report.columns import Column
from embedllm.report.groups import Table, by_settings
from embedllm.report.page.svg import CHARACTER, element, figure, join, shortened, text, title
from embedllm.report.words import plural

CELL, ROW = 66, 34
LONGEST = 22


def heat_map(table: Table) -> tuple[str, Markup, str] | None:
    """Return title, image and caption; None unless two columns vary."""
    pair = _pair(table)
    if pair is None:
        return None
    down, across = pair
    cells = by_settings(table, down.name, across.name)
    turned = [column.name for column in table.columns if column in (down, across)] != [down.name, across.name]
    means, counts, lacking = {}, {}, 0
    for key, groups in cells.items():
        row, column = key[::-1] if turned else key
        known = [mean for group in groups if (mean := group.cell(table.tasks).mean) is not None]
        lacking += len(groups) - len(known)
        counts[row, column] = len(known)
        if known:
            means[row, column] = math.fsum(known) / len(known)
    if len(means) < 2:
        return None
    left = 16 + CHARACTER * min(LONGEST, max(map(len, (down.name, *down.options))))
    width, top = left + CELL * len(across.options) + 8, 46.0
    low, high = min(means.values()), max(means.values())
    parts = [text(left + CELL * len(across.options) / 2, 12, across.name, "middle", "name")]
    parts.append(text(left - 8, top - 12, down.name, "end", "name"))
    for j, column in enumerate(across.options):
        parts.append(text(left + CELL * (j + 0.5), top - 12, shortened(column, 9), "middle"))
    for i, row in enumerate(down.options):
        parts.append(text(left - 8, top + ROW * (i + 0.5) + 4, shortened(row, LONGEST), "end"))
        for j, column in enumerate(across.options):
            if (row, column) in means:
                share = (means[row, column] - low) / ((high - low) or 1)
                label = f"{row}, {column}: {means[row, column]:.1f}, mean of {counts[row, column]} settings"
                parts.append(_cell(left + CELL * j, top + ROW * i, means[row, column], share, label))
            else:
                parts.append(text(left + CELL * (j + 0.5), top + ROW * (i + 0.5) + 4, "-", "middle"))
    caption = "Each cell is one setting, its mean over seeds."
    if max(counts.values()) > 1:
        even = len(set(counts.values())) == 1
        caption = (
            f"A cell is the mean of {'' if even else 'up to '}{max(counts.values())} settings of the other columns."
        )
        caption += "" if even else " Cells of different settings are no fair comparison; the effects below are."
    if lacking:
        caption += f" {plural(lacking, 'setting')} without a complete mean left out."
    image = figure(width, top + ROW * len(down.options) + 6, f"Heat map of {down.name} and {across.name}", join(parts))
    return f"{down.name.capitalize()} and {across.name}", image, caption


def _pair(table: Table) -> tuple[Column, Column] | None:
    """Return the columns of the heat map: prompt and pooling, or else the two with the most values; most go down."""
    several = [column for column in table.columns if len(column.options) > 1]
    if len(several) < 2:
        return None
    named = [column for column in several if column.name in ("pooling", "prompt")]
    chosen = named if len(named) == 2 else sorted(several, key=lambda column: -len(column.options))[:2]
    down, across = sorted(chosen, key=lambda column: (-len(column.options), column.name != "prompt"))
    return down, across


def _cell(x: float, y: float, value: float, share: float, label: str) -> Markup:
    best = " best" if share == 1 else ""
    box = element(
        "rect",
        x=x + 1.5,
        y=y + 1.5,
        width=CELL - 3.0,
        height=ROW - 3.0,
        rx=5.0,
        class_=f"heat{best}",
        fill_opacity=f"{0.06 + 0.94 * share:.2f}",
    )
    ink = "on" if share > 0.7 else "off"
    return element(
        "g", title(label), box, text(x + CELL / 2, y + ROW / 2 + 4, f"{value:.1f}", "middle", f"{ink}{best}")
    )
