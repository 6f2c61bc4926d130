"""``embedllm compare``: two finished runs, task by task, and how sure each difference is."""

import argparse
import json
from pathlib import Path

from embedllm.commands.base import Commands
from embedllm.runs import RunFolder


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    compare = commands.add_parser("compare", help="say on which tasks one of two runs is better, and how sure that is")
    compare.add_argument("a", metavar="RUN", type=Path, help="a run folder, called A")
    compare.add_argument("b", metavar="RUN", type=Path, help="another, called B")
    compare.add_argument("--tasks", nargs="+", metavar="TASK", help="names as in the results; default: all")
    compare.add_argument("--json", action="store_true", help="write JSON")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from embedllm.report.comparison import compare

    folders = {"a": options.a.expanduser(), "b": options.b.expanduser()}
    comparison = compare(RunFolder(folders["a"]), RunFolder(folders["b"]), options.tasks)
    if options.json:
        print(json.dumps({**{name: str(path) for name, path in folders.items()}, **comparison.as_dict()}, indent=2))
    else:
        print(f"A: {folders['a']}\nB: {folders['b']}\n\n{comparison.table()}")
    return 0
