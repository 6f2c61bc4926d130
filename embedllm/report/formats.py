"""The table of a study as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from embedllm.report.groups import MEAN
from embedllm.report.provenance import provenance
from embedllm.report.sheet import Entry, Sheet
from embedllm.report.study import Run

COSTS = ("seconds", "pairs_per_second", "trainable_parameters", "peak_memory_gb")

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a row that begins with one of these gives it to the \\ before it
    "*": "{*}",
}


def markdown(sheet: Sheet) -> str:
    """Return the table with what must be known of it."""
    study = sheet.table.study
    header = [*sheet.settings, *sheet.table.scored, "behind the best", "runs"]
    rule = ["---"] * len(sheet.settings) + ["---:"] * (len(header) - len(sheet.settings))
    rows = [
        [*map(_plain, row.group.settings), *map(_marked_down, row.entries.values()), row.behind, row.runs]
        for row in sheet.rows
    ]
    lines = [_line(map(_plain, header)), _line(rule), *map(_line, rows)]
    parts = [f"# {_plain(study.name)}", _sentence(sheet.summary)]
    parts += ["\n".join(f"* {_plain(_sentence(notice))}" for notice in sheet.notices)] if sheet.notices else []
    parts += [_plain(sentence) for sentence in sheet.verdicts]
    parts += ["\n".join(lines), sheet.method] if rows else []
    if study.absent:
        parts += ["## Runs without a result", "\n".join(f"* {_plain(_absent(run))}" for run in study.absent)]
    parts += ["## Where it comes from", "\n".join(f"* {_plain(line)}" for line in provenance(sheet.table))]
    return "\n\n".join(parts) + "\n"


def results_csv(sheet: Sheet) -> str:
    """Return one row for each run, finished or not: its settings, seed, scores and costs as they were found."""
    table = sheet.table
    tasks = [*table.tasks, *table.others]
    names = [*(f"{task}{end}" for task in tasks for end in ("", " before", " gain low", " gain high"))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    settings = [column.name for column in table.columns]
    writer.writerow(["run", "state", *settings, "seed", *names, MEAN, f"{MEAN} before", *COSTS, "commit", "reason"])
    for run in (*table.study.runs, *table.study.absent):
        scores = [
            value
            for task in tasks
            for value in (
                run.score(task),
                run.score(task, "before"),
                run.gain(task, "low"),
                run.gain(task, "high"),
            )
        ]
        means = [run.mean(table.tasks), run.mean(table.tasks, "before")]
        costs = [run.cost(name) for name in COSTS]
        writer.writerow(
            [
                run.name,
                run.state,
                *(column.values.get(run.name, "") for column in table.columns),
                run.config.get("seed", ""),
                *("" if score is None else f"{score:.4f}" for score in (*scores, *means)),
                *("" if cost is None else f"{cost:.10g}" for cost in costs),
                run.result.get("commit") or "",
                run.reason,
            ]
        )
    return text.getvalue()


def latex(sheet: Sheet) -> str:
    """Return a tabular in the manner of the package booktabs."""
    settings, scored = sheet.settings, list(sheet.table.scored)
    lines = [
        "% needs \\usepackage{booktabs}; bold: best; \\approx: cannot be told from it; \\pm: sd over seeds",
        f"\\begin{{tabular}}{{{'l' * len(settings)}{'r' * (len(scored) + 1)}}}",
        "\\toprule",
        _row([*settings, *scored, "runs"]),
        "\\midrule",
        *(
            " & ".join([*map(_escaped, row.group.settings), *map(_marked_up, row.entries.values()), _escaped(row.runs)])
            + r" \\"
            for row in sheet.rows
        ),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\|<>`*_\[\]#&~$])", r"\\\1", " ".join(text.split()))


def _marked_down(entry: Entry) -> str:
    return {"best": f"**{entry}**", "tied": f"{entry} ≈"}.get(entry.mark, str(entry))


def _marked_up(entry: Entry) -> str:
    words = _escaped(str(entry))
    return {"best": f"\\textbf{{{words}}}", "tied": f"{words} $\\approx$"}.get(entry.mark, words)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _absent(run: Run) -> str:
    return f"{run.name}: {run.state}" + (f", {run.reason}" if run.reason else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
