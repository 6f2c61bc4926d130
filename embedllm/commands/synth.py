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
gates=default | none, generator.NAME=, gates.NAME.NAME=, column=, seed=, rows=, copies=, block=.
Killed or stopped, the same command goes on."""


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    synth = commands.add_parser(
        "synth",
        help="make a file of positive pairs out of texts",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    synth.add_argument("source", metavar="FILE", help="the texts")
    synth.add_argument("-o", "--output", metavar="PAIRS.parquet", type=Path, required=True)
    synth.add_argument("settings", metavar="setting=value", nargs="*", default=[])
    synth.set_defaults(run=_synth)


def _synth(options: argparse.Namespace) -> int:
    from embedllm.synth_settings import read_settings

    settings = read_settings(options.settings)

    from embedllm.synth_job import run_synth

    try:
        notes = run_synth(options.source, options.output, settings)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(_report(options.output, notes))
    if not notes["kept"]:
        raise InputError(f"-o: {str(options.output)!r} has no pair, since every one was removed")
    return 0


def _report(output: Path, notes: Mapping[str, Any]) -> str:
    from embedllm.report.tables import aligned

    rows = [["removed by", "pairs"], *([name, f"{count:,}"] for name, count in sorted(notes["removed"].items()))]
    head = f"{output}: {notes['kept']:,} pairs of {notes['drafts']:,} drafts"
    mended = f"; {notes['mended']:,} stripped of what stood around the text" if notes["mended"] else ""
    return "\n".join([head + mended, *([aligned(rows, left=1)] if notes["removed"] else [])])
