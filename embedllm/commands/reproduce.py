"""``embedllm reproduce``: the command that makes a run again."""

import argparse
import shlex
import sys
from pathlib import Path

from embedllm.commands.base import Commands
from embedllm.runs import RunFolder


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    again = commands.add_parser(
        "reproduce", help="print the command that makes a run again, and what has changed since"
    )
    again.add_argument("folder", metavar="RUN", type=Path, help="the folder of a finished run or scan")
    again.add_argument("--runs-dir", metavar="DIR", default="reproduced", help="where to make it; default: %(default)s")
    again.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    """Write the command alone to the standard output, so that a shell can run it."""
    from embedllm.reproduction import reproduce

    made = reproduce(RunFolder(options.folder.expanduser()), options.runs_dir)
    for warning in made.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    print(made.command)
    if not made.settings["scan"]["poolings"]:
        compare = shlex.join(["embedllm", "compare", str(options.folder), str(made.folder)])
        sys.stderr.write(f"compare then: {compare}\n")
    return 0
