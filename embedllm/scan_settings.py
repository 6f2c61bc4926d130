"""Checks of the settings of a scan, made before anything else: what makes no sense, and what would have no effect."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from embedllm.config import Config, config_dir
from embedllm.errors import InputError


def check_scan(config: Config, choices: Mapping[str, str]) -> None:
    """Raise an InputError for a scan that makes no sense, or for a setting that a run would heed and a scan does not.

    Args:
        config: the settings.
        choices: the option that was chosen in each group.
    """
    if config.trainer.max_steps > 0:
        raise InputError(
            f"scan.poolings: {config.scan.poolings}, but trainer.max_steps is {config.trainer.max_steps}, and a scan "
            "trains nothing; use trainer.max_steps=0"
        )
    if not config.eval.tasks:
        raise InputError("eval.tasks: [], but a scan without a task finds nothing; name one")
    for name in ("pool_over", "centring"):
        values = getattr(config.scan, name)
        if not values or len(set(values)) < len(values):
            raise InputError(f"scan.{name}: {values} is not a list of one or more different values")
    for name, value, instead in _idle(config, choices["pooling"]):
        raise InputError(f"{name}: {value!r} has no effect on a scan; {instead}")


def pooling_option(name: str) -> dict[str, Any]:
    """Return the settings of an option of conf/pooling.

    Raises:
        InputError: there is none.
    """
    if not _file(name).is_file():
        options = ", ".join(sorted(path.stem for path in _file(name).parent.glob("*.yaml")))
        raise InputError(f"scan.poolings: {name!r} is not one of {options}")
    return dict(yaml.safe_load(_file(name).read_text(encoding="utf-8")))


def _file(name: str) -> Path:
    return config_dir() / "pooling" / f"{name}.yaml"


def _idle(config: Config, pooling: str) -> Iterator[tuple[str, Any, str]]:
    """Yield each setting that was changed to no effect, its value, and what to do instead."""
    if config.centring:
        yield "centring", True, "scan.centring says whether vectors are centred"
    if config.export:
        yield "export", True, "it keeps no model, so export a run of its winner"
    if config.eval.dev:
        yield "eval.dev", list(config.eval.dev), "it trains nothing, so leave it out"
    own = pooling_option(pooling) if _file(pooling).is_file() else config.pooling
    for name, value in config.pooling.items():
        if value != own.get(name):
            instead = (
                "use scan.pool_over" if name == "pool_over" else "its heads are those of scan.poolings as they are"
            )
            yield f"pooling.{name}", value, instead
