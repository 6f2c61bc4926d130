"""``embedllm encode``: write the vectors of a file of texts."""

import argparse
import os
from pathlib import Path

from embedllm.commands.base import MODEL_HELP, Commands
from embedllm.errors import InputError


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    encode = commands.add_parser("encode", help="write the vectors of a file of texts, one text a line")
    encode.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    encode.add_argument("file", metavar="FILE", type=Path, help="UTF-8 text; row i of the output is line i")
    encode.add_argument("-o", "--output", metavar="OUT.npy", type=Path, required=True)
    encode.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the vectors on disk")
    encode.set_defaults(run=_encode)


def _encode(options: argparse.Namespace) -> int:
    """Write an (N, D) array whose row i is the vector of line i; only newlines end a line, and blank lines count."""
    texts = _lines(options.file)
    if options.output.suffix != ".npy":
        raise InputError(f"--output: {str(options.output)!r} does not end in .npy")
    if not options.output.resolve().parent.is_dir() or not os.access(options.output.resolve().parent, os.W_OK):
        raise InputError(f"--output: the folder of {str(options.output)!r} cannot be written to")

    import numpy as np

    from embedllm.embedder import Embedder

    embedder = Embedder.load(options.model).to_accelerator()
    vectors = embedder.encode(texts, progress=True).astype(options.dtype)
    temporary = options.output.with_name(f".{options.output.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, vectors)
        temporary.replace(options.output)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{vectors.shape[0]:,} vectors of {vectors.shape[1]} in {options.output}")
    return 0


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})") from error
    if not text:
        raise InputError(f"{str(path)!r} is empty")
    if "\0" in text:
        raise InputError(f"{str(path)!r} is a binary file, not text")
    return text.removesuffix("\n").split("\n")
