"""The ``embedllm`` command: use a finished run, a saved model or a bare decoder.

``python train.py`` makes runs; this command takes them. Each command is a module of :mod:`embedllm.commands`.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from embedllm.commands import (
    attention,
    compare,
    dashboard,
    doctor,
    encode,
    evaluate,
    export,
    map,
    report,
    reproduce,
    status,
    synth,
)
from embedllm.errors import InputError

COMMANDS = (evaluate, compare, report, status, encode, export, map, attention, synth, dashboard, reproduce, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 something failed, 2 bad usage or input."""
    options, left_over = _parser().parse_known_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("httpx", "httpx2"):  # ours and the Hub's, which tell of every request
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        _refuse(_take_settings(options, left_over))
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


def _take_settings(options: argparse.Namespace, left_over: Sequence[str]) -> list[str]:
    """Return what is left over when a command that takes ``setting=value`` has those that argparse did not give it.

    It gives a command no more words once an option has stood among them.
    """
    if not hasattr(options, "settings"):
        return list(left_over)
    found = [word for word in left_over if "=" in word and not word.startswith("-")]
    options.settings = [*options.settings, *found]
    return [word for word in left_over if word not in found]


def _refuse(left_over: Sequence[str]) -> None:
    """Raise an InputError for arguments that the command does not take; the shell may have made them of a pattern."""
    unknown = [word for word in left_over if word.startswith("-")]
    if unknown:
        raise InputError(f"{unknown[0]}: no such option; --help after the command lists those that there are")
    if left_over:
        words = ", ".join(repr(word) for word in left_over)
        raise InputError(
            f"too many arguments: {words} left over; if a pattern such as runs/mine/last-* matches several runs, name "
            "one of them"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="embedllm", description="Use the runs that `python train.py` makes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
