"""Puts a study's table and figures into the page's template, which escapes every text."""

import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from embedllm.report.effects import effects
from embedllm.report.groups import Cell
from embedllm.report.page.dots import costs, effect_figure
from embedllm.report.page.grids import heat_map
from embedllm.report.page.lines import curves, slopes
from embedllm.report.page.scatter import map_figures
from embedllm.report.page.series import colouring
from embedllm.report.provenance import provenance
from embedllm.report.sheet import Entry, Sheet, gap_text

HERE = Path(__file__).parent
LONGEST_ERROR = 4_000
"""Characters of an ``error.txt`` that are shown: its end."""


def render(sheet: Sheet) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"hint": _hint, "points": _points, "whole": _whole}
    return environment.get_template("page.html").render(
        sheet=sheet,
        table=sheet.table,
        study=sheet.table.study,
        figures=_figures(sheet),
        provenance=provenance(sheet.table),
        command=shlex.join(["embedllm", "report", str(sheet.table.study.path)]),
        errors={run.name: _error(run.folder.error) for run in sheet.table.study.absent if run.state == "failed"},
        filters=[column for column in sheet.table.columns if 1 < len(column.options) <= 12],
        costs=[name for name in ("seconds", "trainable_parameters") if any(g.cost(name) for g in sheet.table.groups)],
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
    )


def _figures(sheet: Sheet) -> dict[str, Any]:
    table, colours = sheet.table, colouring(sheet.table)
    heat = heat_map(table)
    coloured = [slopes(table, colours), *costs(table, colours), curves(table, colours)]
    found = effects(table)
    limits = [score for effect in found for scores in effect.scores.values() for score in scores]
    maps = map_figures(table)
    return {
        "overview": [figure for figure in (heat, *coloured) if figure is not None],
        "legend": colours.legend() if any(coloured) else "",
        "effects": [effect_figure(effect, limits) for effect in found],
        "maps": maps[0] if maps else [],
        "labels": maps[1] if maps else "",
    }


def _hint(entry: Entry) -> str:
    """Return what is shown when the mouse rests on a score."""
    values = ", ".join(f"{value:.2f}" for value in entry.cell.values)
    words = f"{values} ({len(entry.cell.values)} of {entry.cell.asked} runs)" if values else "no run has this score"
    return words if entry.gap is None else f"{words}; to the best: {gap_text(entry.gap)}"


def _points(value: float | Cell | None) -> str:
    mean = value.mean if isinstance(value, Cell) else value
    return "-" if mean is None else f"{mean:.1f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _error(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"error.txt cannot be read ({error.strerror})"
    return text if len(text) <= LONGEST_ERROR else f"…{text[-LONGEST_ERROR:]}"
