"""Writes the report of a study: a page, a text, a table for papers and the raw numbers."""

from pathlib import Path

from embedllm.errors import InputError
from embedllm.report.formats import latex, markdown, results_csv
from embedllm.report.groups import tabulate
from embedllm.report.page.page import render
from embedllm.report.reading import read_study
from embedllm.report.sheet import Sheet, build_sheet
from embedllm.runs import replace_text

FILES = {"report.html": render, "report.md": markdown, "results.csv": results_csv, "table.tex": latex}


def write_report(study: Path, folder: Path) -> tuple[Sheet, list[Path]]:
    """Write the files into ``folder``; return what they say and their paths.

    Raises:
        InputError: there is no study, or the folder cannot be written to.
    """
    sheet = build_sheet(tabulate(read_study(study)))
    contents = {name: make(sheet) for name, make in FILES.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            replace_text(folder / name, text)
    except OSError as error:
        raise InputError(f"--output: {str(folder)!r} cannot be written to ({error.strerror})") from error
    return sheet, [folder / name for name in contents]
