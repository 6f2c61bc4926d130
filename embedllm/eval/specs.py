"""Understands the entries of ``eval.tasks`` without reading a file and without importing mteb or torch.

An entry is the name of an MTEB task (``TwentyNewsgroupsClustering.v2``), a local file (``data/foo.csv``) or an embedded
one (``embedded:wordnet_definitions``). What a file is used for follows from its columns, unless a prefix says it:
``classification:data/foo.csv``. An entry is a file if it has such a prefix, a path separator or the suffix of a known
format (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``, each with or without ``.gz``); otherwise it is an MTEB name.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedllm.data.embedded_files import EMBEDDED_PREFIX, resolve_data_path
from embedllm.data.formats import SUFFIXES, file_format
from embedllm.errors import InputError
from embedllm.eval.kinds import KINDS
from embedllm.eval.mirror_files import mirror_folder
from embedllm.eval.suites import load_suite, suite_names

_EMBEDDED = EMBEDDED_PREFIX.removesuffix(":")


@dataclass(frozen=True)
class TaskSpec:
    """One entry of ``eval.tasks``."""

    spec: str
    """As typed."""
    name: str
    """The key in ``result.json``: the MTEB name, or a file's name without suffixes (``foo``, ``fooClassification``)."""
    kind: str | None = None
    """What a file is used for; None for an MTEB task, and for a file whose columns decide it."""
    path: Path | None = None
    """The file; None for an MTEB task."""
    setting: str = "eval.tasks"
    """Where it was typed."""
    mirror: Path | None = None
    """The folder that holds the data of an MTEB task; None: the Hub does."""

    @property
    def where(self) -> str:
        """What a message about this entry begins with."""
        return f"{self.setting}: {self.spec!r}"


def parse_specs(specs: Sequence[str], setting: str = "eval.tasks", mirror: str | None = None) -> list[TaskSpec]:
    """Return one record for each entry, in order.

    Args:
        specs: the entries.
        setting: where they were typed.
        mirror: ``eval.mirror``.

    Raises:
        InputError: ``specs`` is not a list of strings, a file is missing, empty or of an unknown format, two entries
            would have one name in the results, or there is no such mirror.
    """
    folder = mirror_folder(mirror)
    if isinstance(specs, str) or not isinstance(specs, Sequence):
        raise InputError(f"{setting}: {specs!r} is not a list; write [{specs}]")
    parsed = [replace(_parse(spec, setting), setting=setting) for spec in specs]
    parsed = [spec if spec.path else replace(spec, mirror=folder) for spec in parsed]
    first: dict[str, TaskSpec] = {}
    for spec in parsed:
        if spec.name in first:
            raise InputError(
                f"{setting}: {first[spec.name].spec!r} and {spec.spec!r} would both be called {spec.name!r} in the "
                "results; drop one or rename a file"
            )
        first[spec.name] = spec
    return parsed


def task_name(spec: str) -> str:
    """Return the key in ``result.json`` of an entry; its file need not be there."""
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in KINDS:
        return _stem(Path(rest.removeprefix(EMBEDDED_PREFIX))) + KINDS[prefix].suffix
    if colon and prefix == _EMBEDDED:
        return rest
    return _stem(Path(spec)) if "/" in spec or "\\" in spec or file_format(spec) else spec


def _parse(spec: object, setting: str) -> TaskSpec:
    if not isinstance(spec, str) or not spec.strip():
        raise InputError(f"{setting}: {spec!r} is not a task; an entry is the name of an MTEB task or a file")
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in KINDS:
        path = _existing_file(rest, spec, setting)
        return TaskSpec(spec, _stem(path) + KINDS[prefix].suffix, prefix, path)
    if colon and prefix != _EMBEDDED and prefix.isidentifier() and not Path(spec).is_file():
        raise InputError(_unknown_prefix(spec, prefix, setting))
    if colon or "/" in spec or "\\" in spec or file_format(spec):
        path = _existing_file(spec, spec, setting)
        return TaskSpec(spec, _stem(path), None, path)
    if spec in suite_names():
        raise InputError(f"{setting}: {spec!r} is a suite, not a task; {_instead(spec, setting)}")
    return TaskSpec(spec, spec)


def _instead(suite: str, setting: str) -> str:
    """Return how the tasks of a suite are named in ``setting``."""
    if setting != "eval.dev":
        return f"choose it with {'suite=' if setting == 'eval.tasks' else '--suite '}{suite}"
    found = load_suite(suite)
    sample = "" if found.max_documents is None else f" eval.dev_documents={found.max_documents}"
    return f"write its tasks: 'eval.dev=[{','.join(found.tasks)}]'{sample}"


def _stem(path: Path) -> str:
    return Path(path.name[:-3] if path.name.lower().endswith(".gz") else path.name).stem


def _existing_file(location: str, spec: str, setting: str) -> Path:
    path = resolve_data_path(location, setting=setting)
    where = f"{setting}: {spec!r}"
    if path.is_dir():
        raise InputError(f"{where} is a folder; give a file")
    if not path.is_file():
        raise InputError(f"{where}: no file at {str(path)!r} (looked from the folder {str(Path.cwd())!r})")
    if not file_format(path.name):
        raise InputError(f"{where} has an unknown format; a file must end in one of {', '.join(SUFFIXES)} (or + .gz)")
    if path.stat().st_size == 0:
        raise InputError(f"{where} is empty")
    return path


def _unknown_prefix(spec: str, prefix: str, setting: str) -> str:
    prefixes = [*KINDS, _EMBEDDED]
    close = difflib.get_close_matches(prefix, prefixes, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{setting}: {spec!r} has the unknown prefix {prefix!r}{hint}; prefixes are {', '.join(prefixes)}"
