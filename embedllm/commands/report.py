"""``embedllm report``: a study as a page, a text, a table for papers and the raw numbers."""

import argparse
import sys
from pathlib import Path

from embedllm.commands.base import Commands


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    report = commands.add_parser("report", help="write a study's page, tables and raw numbers")
    report.add_argument("study", metavar="STUDY", type=Path, help="the folder of a study, such as runs/mine")
    report.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="default: report in the study's folder")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    """Write the files and print their paths; what is wrong with the study goes to the standard error."""
    from embedllm.dashboard import publish
    from embedllm.report.writer import write_report

    study = options.study.expanduser()
    folder = options.output.expanduser() if options.output else study / "report"
    sheet, paths = write_report(study, folder)
    for notice in sheet.notices:
        print(f"{options.study}: {notice}", file=sys.stderr)
    print(f"{sheet.table.study.name}: {sheet.summary}")
    for sentence in sheet.verdicts:
        print(sentence)
    for path in paths:
        print(path)
    publish(study, folder)
    return 0
