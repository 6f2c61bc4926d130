"""Where texts come from: a file, a packaged set (``embedded:``) or the Hub (``hub:``)."""

import hashlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from embedllm.data.digest import file_digest
from embedllm.data.embedded_files import resolve_data_path
from embedllm.data.formats import SUFFIXES, Column, Row, Table, file_format, open_table
from embedllm.data.textfile import read_lines
from embedllm.errors import InputError

HUB_PREFIX = "hub:"
HUB_FORM = f"{HUB_PREFIX}owner/name[:config][:split] or {HUB_PREFIX}owner/name/FILE"
TEXT_SUFFIX = ".txt"
"""One text a line."""
SETTING = "data.path"
"""What messages call the source, unless somebody else asks for it."""


def open_source(name: str, wanted: Sequence[Column], setting: str = SETTING) -> Table:
    """Open ``data.path``: a csv, tsv, jsonl, parquet or txt file (each may end in .gz), ``embedded:`` or ``hub:``.

    Args:
        name: the source as typed.
        wanted: columns that the caller looks at, the text's first. An integer there means a file without a header.
        setting: what messages call the source.

    Raises:
        InputError: now or while the rows are read, if there is no such source, or it cannot be read.
    """
    path = locate(name, setting)
    form = "" if path is None else file_format(path.name)
    if isinstance(wanted[0], int) and form not in (".csv", ".tsv"):
        raise InputError(f"data.anchor: {wanted[0]!r} is a column number, and {name!r} is not csv or tsv; give a name")
    if path is None:
        return _hub_table(name, wanted, setting)
    where = f"{setting}: {name!r}"
    if path.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIX):
        return Table((wanted[0],), ({wanted[0]: line} for line in read_lines(path, where)))
    if not form:
        known = ", ".join([*SUFFIXES, TEXT_SUFFIX])
        raise InputError(f"{where} has an unknown format; a file must end in one of {known} (or + .gz)")
    table = open_table(path, wanted, where)
    return Table(table.columns, _refuse_late(table.rows, set(wanted) - set(table.columns), where))


def _refuse_late(rows: Iterator[Row], absent: AbstractSet[Column], where: str) -> Iterator[Row]:
    """Yield the rows, none of which may have a column that the source was taken not to have."""
    for number, row in enumerate(rows, start=1):
        if late := absent & row.keys():
            raise InputError(
                f"{where} has the column {min(map(str, late))!r} in row {number}, but not in its first row"
            )
        yield row


def locate(name: str, setting: str = SETTING) -> Path | None:
    """Return the file that the setting names, fetched if it is one of the Hub; None for a data set of the Hub.

    Raises:
        InputError: if there is no such file.
    """
    if name.startswith(HUB_PREFIX):
        return _hub_file(name, setting)
    path = resolve_data_path(name, setting)
    if path.is_dir():
        raise InputError(f"{setting}: {name!r} is a folder; name a file in it")
    if not path.is_file():
        raise InputError(f"{setting}: no file at {name!r}, looked in {str(path.absolute().parent)!r}")
    return path


def fingerprint(name: str, setting: str = SETTING) -> str:
    """Return the SHA-256 of the file's bytes, in hex, so that neither its name nor its place counts.

    A Hub data set is fetched by name, so there it is the SHA-256 of the name.
    """
    path = None if name.startswith(HUB_PREFIX) else locate(name, setting)
    return hashlib.sha256(name.encode()).hexdigest() if path is None else file_digest(path)


def _hub_file(name: str, setting: str) -> Path | None:
    """Fetch ``hub:owner/name/FILE``, or take it from the cache; None if the spec names no file."""
    owner, _, rest = name.removeprefix(HUB_PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    if not file:
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file, repo_type="dataset"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise _away(name, setting, error) from error


def _away(name: str, setting: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{setting}: cannot load {name!r} from the Hub ({reason}); it is read as {HUB_FORM}")


def _hub_table(name: str, wanted: Sequence[Column], setting: str) -> Table:
    import datasets

    repository, _, rest = name.removeprefix(HUB_PREFIX).partition(":")
    config, _, split = rest.partition(":")
    try:
        rows = datasets.load_dataset(repository, config or None, split=split or "train")
    except (OSError, ValueError, RuntimeError) as error:
        raise _away(name, setting, error) from error
    columns = tuple(rows.column_names)
    return Table(columns, iter(rows.select_columns([column for column in columns if column in wanted])))
