"""``embedllm doctor``: what this machine has, and whether what every run needs works on it."""

import argparse
import os
import sys

from embedllm.commands.base import Commands

COLOURS = {"ok": "32", "warn": "33", "FAIL": "31"}


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    doctor = commands.add_parser("doctor", help="look at packages, devices, caches and services, and test a tiny model")
    doctor.set_defaults(run=_doctor)


def _doctor(_options: argparse.Namespace) -> int:
    """Print one verdict a line; the exit code is 1 if one of them is FAIL."""
    from embedllm.doctor.examination import examine

    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    failed = False
    for verdict in examine():
        line = str(verdict)
        if coloured:
            line = f"\033[{COLOURS[verdict.state]}m{verdict.state}\033[0m{line.removeprefix(verdict.state)}"
        print(line, flush=True)
        failed |= verdict.state == "FAIL"
    return int(failed)
