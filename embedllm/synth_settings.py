"""The settings of ``embedllm synth``: composed by Hydra from ``conf/synth`` and the words of the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from embedllm.config import config_dir
from embedllm.errors import InputError, unknown
from embedllm.hydra_errors import ERRORS, explain
from embedllm.targets import check_targets, locate


@dataclass
class SynthConfig:
    """All settings of ``embedllm synth``; ``generator``, ``gates`` and ``mine`` hold what their classes take."""

    generator: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    mine: dict[str, Any] = field(default_factory=dict)
    column: str = "anchor"
    """Of the texts."""
    seed: int = 0
    rows: int | None = None
    """Read the first so many rows; null: all."""
    copies: int = 1
    """Drafts of each row."""
    block: int = 64
    """Rows that are done or lost together when the run is killed."""
    max_characters: int = 100_000
    """Longer texts are not used."""


LOWEST = {"seed": 0, "rows": 1, "copies": 1, "block": 1, "max_characters": 1}

ConfigStore.instance().store("synth_schema", SynthConfig)


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings as plain values, all of them known and in range.

    Args:
        words: ``setting=value`` each.

    Raises:
        InputError: naming the setting.
    """
    folder = config_dir() / "synth"
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            composed = compose("config", list(words))
        plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except ERRORS as error:
        raise InputError(explain(error, known_settings(words))) from error
    names = [item.name for item in fields(SynthConfig)]
    for name in plain:
        if name not in names:
            raise InputError(unknown(name, names))
    for name, lowest in LOWEST.items():
        if plain[name] is not None and plain[name] < lowest:
            raise InputError(f"{name}: {plain[name]} is not allowed; the lowest value is {lowest}")
    check_targets(plain)
    return dict(plain)


def known_settings(words: Sequence[str]) -> list[str]:
    """Return the names of all settings with the groups that ``words`` choose, for suggestions."""
    folder = config_dir() / "synth"
    chosen = [word for word in words if (folder / word.partition("=")[0]).is_dir()]
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            plain = OmegaConf.to_container(compose("config", chosen))
    except ERRORS:
        plain = {}
    return list(_names(plain))


def build(node: Any) -> Any:
    """Return ``node`` with each mapping that names a class by ``_target_`` replaced by an object of it."""
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {name: build(value) for name, value in node.items() if name != "_target_"}
    return locate(node["_target_"])(**arguments) if "_target_" in node else arguments


def _names(node: Any, path: str = "") -> list[str]:
    names = []
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        names += [name, *(_names(value, name) if isinstance(value, Mapping) else [])]
    return names
