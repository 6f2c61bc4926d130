"""Find the data files that come with the package; settings name them ``embedded:NAME``."""

from pathlib import Path

from embedllm.errors import InputError

EMBEDDED_PREFIX = "embedded:"
"""What a setting starts with when it means a file of the package and not a path."""

EMBEDDED_DATA: dict[str, str] = {
    "wordnet_definitions": "wordnet_definitions.csv",
    "wikipedia_sentences": "wikipedia_sentences.csv",
    "wikipedia_pairs": "wikipedia_pairs.parquet",
}
"""File name by data set. Columns: ``text,label`` (25 classes), ``title,anchor``, and ``anchor,positive`` and more."""

_FOLDER = Path(__file__).parent / "embedded"


def embedded_data_path(name: str, setting: str = "data.path") -> Path:
    """Return the file of an embedded data set.

    Args:
        name: A key of ``EMBEDDED_DATA``, without the prefix.
        setting: The setting that an error message names.
    """
    if name not in EMBEDDED_DATA:
        allowed = ", ".join(EMBEDDED_PREFIX + known for known in EMBEDDED_DATA)
        raise InputError(f"{setting}: no embedded data set {name!r}; the package has {allowed}")
    return _FOLDER / EMBEDDED_DATA[name]


def resolve_data_path(spec: str, setting: str = "data.path") -> Path:
    """Return the path that a data setting means; whether a file is there is not looked at.

    Args:
        spec: ``embedded:NAME`` or a path, where ``~`` stands for the home folder.
        setting: The setting that an error message names.

    >>> resolve_data_path("embedded:wordnet_definitions").name
    'wordnet_definitions.csv'
    """
    if spec.startswith(EMBEDDED_PREFIX):
        return embedded_data_path(spec.removeprefix(EMBEDDED_PREFIX), setting)
    return Path(spec).expanduser()
