"""Run programs one after another, each in a process of its own that has torch and its like imported already.

``python warm_programs.py`` imports them, then reads one program a line: its words and the files for what it prints,
in JSON. It forks, the child becomes the program, and its exit code is written as a line. Importing takes longer than
most of the programs of the documentation.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

LIBRARIES = ("torch", "transformers", "peft", "lightning.pytorch", "sentence_transformers", "mteb", "matplotlib.pyplot")
LIMIT_S = 300


class WarmPrograms:
    """The process that forks; ``folder`` is where programs run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run ``train.py`` with arguments, or ``-m`` and a module."""
        printed = [self.folder.with_name(f"{self.folder.name}.{name}") for name in ("output", "errors")]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([words, *map(str, printed)]) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        output, errors = (path.read_text(encoding="utf-8") for path in printed)
        return subprocess.CompletedProcess(words, code, output, errors)

    def close(self) -> None:
        """End it."""
        self.process.communicate()


def serve() -> None:
    """Fork for each line; the child returns from here when the program has ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some libraries print when they are imported
    for name in LIBRARIES:
        importlib.import_module(name)
    while line := sys.stdin.readline():
        words, output, errors = json.loads(line)
        child = os.fork()
        if not child:
            become(words, output, errors)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def become(words: Sequence[str], output: str, errors: str) -> None:
    """Be the program to its end, as ``python WORDS`` would."""
    signal.alarm(LIMIT_S)
    for number, path in ((0, os.devnull), (1, output), (2, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.path[0] = str(Path.cwd())
    try:
        if words[0] == "-m":
            sys.argv = list(words[1:])
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(words)
            runpy.run_path(words[0], run_name="__main__")
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    serve()
