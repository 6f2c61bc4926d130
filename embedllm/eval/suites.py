"""Frozen, named lists of evaluation tasks: the files of ``conf/suite``.

A mean score says nothing without the tasks that it is taken over, so :func:`describe` stands with every one printed.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from embedllm.config import config_dir
from embedllm.errors import InputError


@dataclass(frozen=True)
class Suite:
    """A list of tasks with a name."""

    name: str
    """The file's name, without its suffix."""
    tasks: tuple[str, ...]
    """As for ``eval.tasks``."""
    max_documents: int | None = None
    """As for ``eval.max_documents``."""


def load_suite(name: str) -> Suite:
    """Return the suite ``name``.

    Raises:
        InputError: There is none; the message lists all, the nearest first.
    """
    import yaml

    if name not in suite_names():
        raise InputError(f"suite: there is no {name!r}; allowed: {', '.join(_nearest_first(name))}")
    content = yaml.safe_load((_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return Suite(name, tuple(content["tasks"]), content.get("max_documents"))


def suite_names() -> list[str]:
    """Return the names of all suites, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def suite_of(task_specs: Sequence[str], max_documents: int | None) -> str | None:
    """Return the suite that holds exactly these tasks, in any order, on as many documents; None if there is none."""
    for name in suite_names():
        suite = load_suite(name)
        if sorted(suite.tasks) == sorted(task_specs) and suite.max_documents == max_documents:
            return name
    return None


def describe(
    task_specs: Sequence[str],
    max_documents: int | None,
    *,
    mirror: str | Path | None = None,
    mteb_version: str | None = None,
) -> str:
    """Return the line that stands with a mean score: the suite or ``custom``, the number of tasks, mteb's version.

    Args:
        task_specs: ``eval.tasks`` of the score.
        max_documents: ``eval.max_documents`` of the score.
        mirror: ``eval.mirror`` of the score: that the data were not the Hub's is said too.
        mteb_version: That which made the scores, as of :func:`embedllm.scoring.mteb_versions`; None for the one that is
            installed.

    >>> describe(["my.csv"], 512, mteb_version="2.26.24")
    'custom (1 task, at most 512 documents each, mteb 2.26.24)'
    """
    tasks = "1 task" if len(task_specs) == 1 else f"{len(task_specs)} tasks"
    sample = [] if max_documents is None else [f"at most {max_documents} documents each"]
    source = [] if mirror is None else ["data of eval.mirror"]
    details = [tasks, *sample, *source, f"mteb {mteb_version or version('mteb')}"]
    return f"{suite_of(task_specs, max_documents) or 'custom'} ({', '.join(details)})"


def _folder() -> Path:
    return config_dir() / "suite"


def _nearest_first(name: str) -> list[str]:
    names = suite_names()
    return difflib.get_close_matches(name, names, n=len(names), cutoff=0.0)
