"""``embedllm export`` and ``embedllm verify``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embedllm.commands.base import Commands

if TYPE_CHECKING:  # here and below: what a parser needs is there in no time
    from embedllm.export import VerifyReport

DTYPES = ("float32", "bfloat16", "float16")


def add_command(commands: Commands) -> None:
    """Add both commands to the parser of ``embedllm``."""
    export = commands.add_parser("export", help="write a folder that sentence-transformers loads, and verify it")
    export.add_argument("model", metavar="RUN", help="a run folder, a saved model folder or a decoder")
    export.add_argument("folder", metavar="DIR", type=Path, help="a new folder")
    export.add_argument("--adapter-only", action="store_true", help="write the adapter, and the base by reference")
    export.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights on disk")
    export.set_defaults(run=_export)

    verify = commands.add_parser("verify", help="compare an exported folder with the vectors that its model had")
    verify.add_argument("folder", metavar="DIR", type=Path, help="a folder that `embedllm export` wrote")
    verify.set_defaults(run=_verify)


def _export(options: argparse.Namespace) -> int:
    """Write the folder; what does not verify is not left there."""
    from embedllm.export import VerificationError, export

    try:
        report = export(options.model, options.folder, dtype=options.dtype, adapter_only=options.adapter_only)
    except VerificationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return _show(report)


def _verify(options: argparse.Namespace) -> int:
    """Write one line for each check."""
    from embedllm.export import verify

    return _show(verify(options.folder))


def _show(report: "VerifyReport") -> int:
    lines = [str(check) for check in report.checks] + [f"note  {note}" for note in report.notes]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if report.ok else 1
