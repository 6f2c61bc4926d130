"""``embedllm export`` and ``embedllm verify``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embedllm.commands.base import Commands
from embedllm.errors import InputError

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
    export.add_argument(
        "--push", metavar="OWNER/NAME", help="also send DIR to the Hugging Face Hub, as a private model; needs a token"
    )
    export.add_argument("--public", action="store_true", help="let everybody read the model of --push")
    export.set_defaults(run=_export)

    verify = commands.add_parser("verify", help="compare an exported folder with the vectors that its model had")
    verify.add_argument("folder", metavar="DIR", type=Path, help="a folder that `embedllm export` wrote")
    verify.set_defaults(run=_verify)


def _export(options: argparse.Namespace) -> int:
    """Write the folder, and send it where it is to go; what does not verify is not left there."""
    if options.public and options.push is None:
        raise InputError("--public: nothing is sent without --push OWNER/NAME; leave --public out")

    from embedllm.export import PushError, VerificationError, check_push, export, push

    if options.push is not None:
        check_push(options.push, public=options.public)
    try:
        report = export(options.model, options.folder, dtype=options.dtype, adapter_only=options.adapter_only)
        code = _show(report)
        if options.push is not None:
            sys.stdout.write(f"sent to {push(options.folder, options.push, public=options.public)}\n")
    except (VerificationError, PushError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return code


def _verify(options: argparse.Namespace) -> int:
    """Write one line for each check."""
    from embedllm.export import verify

    return _show(verify(options.folder))


def _show(report: "VerifyReport") -> int:
    lines = [str(check) for check in report.checks] + [f"note  {note}" for note in report.notes]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if report.ok else 1
