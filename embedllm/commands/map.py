"""``embedllm map``: draw the documents of a task before and after a training."""

import argparse
from pathlib import Path

from embedllm.commands.base import Commands
from embedllm.errors import InputError
from embedllm.runs import RunFolder


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    draw = commands.add_parser("map", help="draw the documents of a task in two dimensions, before and after training")
    draw.add_argument("folder", metavar="RUN", type=Path, help="a run folder")
    draw.add_argument("-o", "--output", metavar="FIG", type=Path, required=True, help="a .png, .svg or .pdf file")
    draw.add_argument("--task", help="a clustering task of the run; default: the first")
    draw.set_defaults(run=_map)


def _map(options: argparse.Namespace) -> int:
    folder = RunFolder(options.folder.expanduser())
    result = folder.read_result()
    if result is None:
        raise InputError(f"RUN: {str(options.folder)!r} is not the folder of a finished run")
    if options.output.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--output: {str(options.output)!r} does not end in .png, .svg or .pdf")
    clustered = [name for name, entry in result["tasks"].items() if entry.get("metric") == "v_measure"]
    drawn = [name for name in clustered if folder.evidence("after", name).is_file()]
    task = options.task or "".join(drawn[:1])
    if task not in drawn:
        raise InputError(f"--task: {task!r} has no map in this run; these have: {', '.join(drawn) or 'none'}")

    from embedllm.report.maps import draw_map

    draw_map(folder, task, result["tasks"][task], options.output)
    print(options.output)
    return 0
