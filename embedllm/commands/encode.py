"""``embedllm encode``: write the vectors of a file of texts."""

import argparse
import os
import sys
from pathlib import Path

from embedllm.commands.base import MODEL_HELP, Commands
from embedllm.data.survey import survey
from embedllm.errors import InputError


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    encode = commands.add_parser("encode", help="write the vectors of a file of texts, one text a line")
    encode.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    encode.add_argument(
        "file", metavar="FILE", type=Path, help="UTF-8 text (or .gz of it); row i of the output is line i"
    )
    encode.add_argument("-o", "--output", metavar="OUT.npy", type=Path, required=True)
    encode.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the vectors on disk")
    encode.set_defaults(run=_encode)


def _encode(options: argparse.Namespace) -> int:
    """Write an (N, D) array whose row i is the vector of line i; only newlines end a line, and blank lines count."""
    _check_output(options.output)
    source = survey(options.file, repr(str(options.file)))

    from embedllm.embedder import Embedder
    from embedllm.encode_file import encode_file
    from embedllm.scan.embedder_key import embedder_key

    try:
        embedder = Embedder.load(options.model).to_accelerator()
        key = embedder_key(embedder, options.model)
        rows, width = encode_file(embedder, key, source, options.output, dtype=options.dtype)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{rows:,} vectors of {width} in {options.output}")
    return 0


def _check_output(output: Path) -> None:
    if output.suffix != ".npy":
        raise InputError(f"--output: {str(output)!r} does not end in .npy")
    if output.is_dir():
        raise InputError(f"--output: {str(output)!r} is a folder; give a new file")
    folder = output.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--output: the folder of {str(output)!r} cannot be written to")
