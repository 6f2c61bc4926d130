"""The ``embedllm`` command: use a finished run, a saved model or a bare decoder.

``python train.py`` makes runs; this command takes them: ``embedllm evaluate``, ``encode``, ``export``, ``verify``.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedllm.cli_export import add_commands
from embedllm.config import config_dir
from embedllm.errors import InputError

MODEL_HELP = "a run folder, a saved model folder, a decoder's folder or GGUF file, or a Hub id"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 something failed, 2 bad usage or input."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return int(options.run(options))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'the output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="embedllm", description="Use the runs that `python train.py` makes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    evaluate = commands.add_parser("evaluate", help="score a model on MTEB tasks and local files")
    evaluate.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    evaluate.add_argument("--tasks", nargs="+", metavar="TASK", help="MTEB names and local files; default: embedded")
    evaluate.add_argument("--max-documents", type=int, metavar="N", help="score a fixed sample of each task")
    evaluate.set_defaults(run=_evaluate)

    encode = commands.add_parser("encode", help="write the vectors of a file of texts, one text a line")
    encode.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    encode.add_argument("file", metavar="FILE", type=Path, help="UTF-8 text; row i of the output is line i")
    encode.add_argument("-o", "--output", metavar="OUT.npy", type=Path, required=True)
    encode.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the vectors on disk")
    encode.set_defaults(run=_encode)
    add_commands(commands)
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    """Score a model; the scores of a run are added to its ``result.json``."""
    from embedllm.eval.specs import parse_specs
    from embedllm.scoring import score_run

    if options.max_documents is not None and options.max_documents < 2:
        raise InputError(f"--max-documents: {options.max_documents} is not allowed; the lowest value is 2")
    tasks, sample = options.tasks, options.max_documents
    if tasks is None:
        default = _embedded_eval()
        tasks, sample = default["tasks"], sample or default["max_documents"]
    scores = score_run(options.model, parse_specs(tasks), sample)
    for name, score in scores.items():
        print(f"{name}\t{score['error'] if 'error' in score else format(score['main_score'], '.2f')}")
    return 1 if any("error" in score for score in scores.values()) else 0


def _embedded_eval() -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load((config_dir() / "eval" / "embedded.yaml").read_text(encoding="utf-8")))


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


if __name__ == "__main__":
    sys.exit(main())
