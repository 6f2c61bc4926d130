"""Turn the errors of Hydra and OmegaConf into one sentence that names the setting."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from hydra.conf import HydraConf
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from embedllm.errors import unknown

ERRORS = (HydraException, MissingConfigException, OmegaConfBaseException)


def explain(error: Exception, settings: Sequence[str]) -> str:
    """Return one sentence for ``error``.

    Args:
        error: one of :data:`ERRORS`.
        settings: the names of all settings, for suggestions.
    """
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read as setting=value; quote values that hold spaces, braces, commas or "
            "colons twice, as in 'prompt.template=\"Text: {text}\"'"
        )
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    cause = error.__cause__ if error.__cause__ is not None else error
    name = str(getattr(cause, "full_key", None) or _named_in(str(error)) or "")
    text = str(getattr(cause, "msg", None) or cause).split("\n")[0].strip()
    if "not in struct" in text or re.match(r"Key '.*' not in '", text):
        return unknown(name, _settings_of_hydra() if name.startswith("hydra.") else settings)
    if "Ambiguous value" in text:
        return f"{text.removeprefix('Ambiguous value for argument ')} names several values; add -m to run each of them"
    given = re.search(r"Error merging override (\S+?)=(.*)", str(error))
    found = f"{given.group(2)!r} " if given else ""
    return f"{name}: {found}{_reason(text)}" if name else text


def explain_value(error: ValueError, given: Sequence[str], groups: Path) -> str:
    """Return one sentence for a ValueError that Hydra raises about the command line.

    Args:
        error: what was raised.
        given: the words of the command line.
        groups: the folder that has a folder of options for each group.
    """
    if "Config group override must be a string or a list" in str(error):
        for word in given:
            group, _, value = word.partition("=")
            if "null" in value.split(",") and (groups / group).is_dir():
                return _no_option(group, sorted(path.stem for path in (groups / group).glob("*.yaml")))
    words = ", ".join(word for word in given if not word.startswith("-"))
    return f"{str(error).splitlines()[0]} (given: {words})"


def _settings_of_hydra() -> list[str]:
    """Return the names of Hydra's own settings, of the upper two levels."""
    names = []
    for item in fields(HydraConf):
        name = f"hydra.{item.name}"
        names += [name, *(f"{name}.{inner.name}" for inner in (fields(item.type) if is_dataclass(item.type) else ()))]
    return names


def _no_option(group: str, options: Sequence[str]) -> str:
    parent, _, name = group.rpartition("/")
    hint = f"write {parent}.{name}=null to have none" if parent else "leave it out for the default"
    return f"{group}: null is no option; {hint}, or choose one of: {', '.join(options)}"


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = list(error.options or [])
    close = difflib.get_close_matches(option, options, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{group or 'config'}: there is no {option!r}; {hint}allowed: {', '.join(options)}"


def _named_in(message: str) -> str | None:
    found = re.search(r"override '?\+*([\w.@/]+)", message)
    return found.group(1) if found else None


def _reason(text: str) -> str:
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    converted = re.search(r"could not be converted to (\w+)", text)
    if converted:
        return f"is not {kinds.get(converted.group(1), converted.group(1))}"
    hinted = re.search(r"type hint 'Union\[(.*)\]'", text)
    if hinted:
        return f"is not of type {hinted.group(1).replace(', ', ' or ')}"
    if "is not a valid bool" in text:
        return "is not true or false"
    if "not a ListConfig" in text:
        return "is not a list; write [a,b]"
    if "not Optional" in text:
        return "null is not allowed"
    if "is not a subclass of" in text:
        return "is not one value but a group of settings; set one of them, as in trainer.devices=1"
    return text
