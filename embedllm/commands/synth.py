"""``embedllm synth``: make positive pairs out of raw texts, mine hard negatives for them, or look at them."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedllm.commands.base import Commands
from embedllm.errors import InputError

_EPILOG = """\
FILE is csv, tsv, jsonl, parquet or txt (also .gz), embedded:NAME or hub:NAME. Settings are those of conf/synth:
generator=llm | endpoint | back_translation | word_noise | wordnet | spans | same_label | dropout | nli | mixture,
gates=default | none, generator.NAME=, gates.NAME.NAME=, column=, seed=, rows=, copies=, block=, mine.NAME=.
Killed or stopped, the same command goes on; --mine starts again.

  embedllm synth texts.txt -o pairs.parquet                            a language model writes the positives
  embedllm synth texts.csv -o pairs.parquet generator=spans column=text
  embedllm synth pairs.parquet --mine -o harder.parquet                add hard negatives
  embedllm synth --inspect pairs.parquet -o pairs.html                 look at them"""


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    synth = commands.add_parser(
        "synth",
        help="make a file of positive pairs out of texts, or look at one",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    synth.add_argument("source", metavar="FILE", help="the texts, or with --mine and --inspect the pairs")
    what = synth.add_mutually_exclusive_group()
    what.add_argument("--mine", action="store_true", help="add hard negatives to the pairs of FILE")
    what.add_argument("--inspect", action="store_true", help="print examples, lengths, repeats, overlaps of FILE")
    synth.add_argument(
        "-o", "--output", metavar="OUT", type=Path, help="PAIRS.parquet; with --inspect a page, OUT.html"
    )
    synth.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="with --inspect: look for texts of these evaluation tasks; default: the embedded one",
    )
    synth.add_argument("settings", metavar="setting=value", nargs="*", default=[])
    synth.set_defaults(run=_synth)


def _synth(options: argparse.Namespace) -> int:
    if options.inspect:
        return _inspect(options)
    if options.tasks:
        raise InputError(
            "--tasks: goes with --inspect only; gates.contamination.tasks=[...] says whose texts are kept out of pairs"
        )
    if options.output is None:
        raise InputError("-o: name the file to write, as in -o pairs.parquet")

    from embedllm.synth_settings import read_settings

    settings = read_settings(options.settings)
    try:
        return _mine(options, settings) if options.mine else _make(options, settings)
    except KeyboardInterrupt:
        print(
            f"interrupted; the same command {'starts again' if options.mine else 'goes on from here'}", file=sys.stderr
        )
        return 130


def _make(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    from embedllm.synth_job import run_synth

    notes = run_synth(options.source, options.output, settings)
    print(_report(options.output, notes))
    if not notes["kept"]:
        raise InputError(f"gates: none of the pairs was kept, so {str(options.output)!r} is empty")
    return 0


def _mine(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    from embedllm.synth_job import run_mining

    counts = run_mining(options.source, options.output, settings)
    print(f"{options.output}: {counts['pairs']:,} pairs, {counts['without']:,} of them without a hard negative")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    if options.settings:
        raise InputError(f"--inspect: takes no settings, but {options.settings[0]!r} is one")
    if options.output is not None and options.output.suffix != ".html":
        raise InputError(f"-o: {str(options.output)!r} does not end in .html")

    from embedllm.runs import replace_text
    from embedllm.synth.inspection import inspect_pairs
    from embedllm.synth.page import page
    from embedllm.synth.summary import summary

    found = inspect_pairs(options.source, options.tasks or ["embedded:wordnet_definitions"])
    print(summary(found))
    if options.output is not None:
        replace_text(options.output.expanduser(), page(found))
        print(f"\n{options.output}")
    return 0


def _report(output: Path, notes: Mapping[str, Any]) -> str:
    from embedllm.report.tables import aligned

    rows = [["removed by", "pairs"], *([name, f"{count:,}"] for name, count in sorted(notes["removed"].items()))]
    head = f"{output}: {notes['kept']:,} pairs of {notes['drafts']:,} drafts"
    mended = f"; {notes['mended']:,} stripped of what stood around the text" if notes["mended"] else ""
    return "\n".join([head + mended, *([aligned(rows, left=1)] if notes["removed"] else [])])
