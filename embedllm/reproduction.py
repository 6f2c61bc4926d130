"""The command that makes a run again, and what is not as it was when the run was made."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from embedllm.config import Config, check_known, config_dir
from embedllm.errors import InputError
from embedllm.eval.specs import parse_specs
from embedllm.hydra_errors import ERRORS
from embedllm.job import run_folder
from embedllm.provenance import commit, hardware, versions
from embedllm.recipe import inputs
from embedllm.runs import RunFolder
from embedllm.scan_job import scan_folder
from embedllm.scoring import documents_of

Settings = dict[str, Any]

OPEN = ("pooling", "loss", "optimizer", "data.augment")
"""Groups that hold what their class takes; a key that is not there can be added, and one that is can be removed."""
OTHERS = ("logger", "sweep")
"""Groups that make no difference to a run: it would go on with the record of the first, or start all of a sweep."""
NAMED = {"model": ["name"], "data": ["path"], "adapter": ["path"], "eval": ["tasks", "dev", "mirror"]}
"""Settings that name files, by group."""
PLAIN = re.compile(r"(?!\.\d)[A-Za-z_./][A-Za-z0-9_./:@-]*")
"""Text that stands in an override without quotes, unless it is one of :data:`WORDS`."""
WORDS = ("null", "true", "false", "nan", "inf")

ConfigStore.instance().store("schema", Config)


@dataclass(frozen=True)
class Reproduction:
    """How a run is made again."""

    settings: Settings
    """Of the run."""
    overrides: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    """Where the run will lie."""
    warnings: Sequence[str]

    @property
    def command(self) -> str:
        """For a POSIX shell, on one line."""
        own = config_dir().parent / "train.py"
        program = ["train.py"] if own.is_file() and own == Path("train.py").absolute() else ["-m", "embedllm.train"]
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(["python", *program, *self.overrides])])


def reproduce(folder: RunFolder, runs_dir: str) -> Reproduction:
    """Return how the run, or the scan, in ``folder`` is made again below ``runs_dir``.

    Raises:
        InputError: it is not the folder of a finished run, or there is no command that gives its settings.
    """
    result = _read(folder)
    recorded = {**result["config"], "runs_dir": runs_dir, "logger": {}, "dry_run": False}
    settings = _found(recorded, Path(result.get("directory", ".")))
    overrides = _overrides(settings, result["choices"])
    settings, _ = _composed(overrides, resolve=True)  # with what an older version of embedllm did not have
    made = run_folder if not settings["scan"]["poolings"] else scan_folder
    warnings = [*_data_warnings(settings, result), *_machine_warnings(result)]
    try:
        path = made(settings, result["choices"]).path
    except InputError:  # a file is missing, which a warning says
        path = Path(runs_dir) / settings["study"] / folder.path.name
    if not warnings and path.name.rpartition("-")[2] != result["run_id"]:
        warnings.append(
            f"settings: they make a run {path.name!r} here, and made {result['run_id']!r} then, so this version of "
            "embedllm takes them for something else"
        )
    variables = dict(result.get("environment", {}))
    if "threads" in result:
        variables["OMP_NUM_THREADS"] = str(result["threads"])
    return Reproduction(settings, overrides, variables, path, warnings)


def _read(folder: RunFolder) -> Settings:
    path = folder.scan if folder.scan.is_file() else folder.result
    where = f"RUN: {str(folder.path)!r}"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{where} is not the folder of a finished run or scan") from error
    except ValueError as error:
        raise InputError(f"{where}: {path.name} is damaged ({error}); make the run again") from error
    for name in ("config", "choices", "run_id"):
        kind = str if name == "run_id" else dict
        if not isinstance(result, dict) or not isinstance(result.get(name), kind):
            raise InputError(f"{where}: {path.name} does not say the {name} of the run")
    for name in NAMED:
        if not isinstance(result["config"].get(name), dict):
            raise InputError(f"{where}: {path.name} does not say the setting {name} of the run")
    return dict(result)


def _overrides(settings: Settings, choices: Mapping[str, str]) -> list[str]:
    """Return the words that make Hydra compose ``settings``: options of groups where there are such, then values.

    Raises:
        InputError: no words do.
    """
    groups: list[str] = []
    _, usual = _composed([])
    for group, option in choices.items():
        known = (config_dir() / group / f"{option}.yaml").is_file() and group not in OTHERS
        if known and usual.get(group) != option and _composes([*groups, f"{group}={option}"]):
            groups.append(f"{group}={option}")
    base, _ = _composed(groups)
    words = [*groups, *_differences(settings, base)]
    try:
        made, _ = _composed(words, resolve=True)
    except ERRORS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"RUN: this version of embedllm does not take the settings of the run ({reason})") from error
    check_known(made)
    left = [word for word in _differences(settings, made) if not word.startswith("~")]
    if left:
        raise InputError(f"RUN: no command gives the settings of the run; {left[0].partition('=')[0]} would differ")
    return words


def _composes(words: Sequence[str]) -> bool:
    try:
        _composed(words)
    except ERRORS:
        return False
    return True


def _composed(words: Sequence[str], resolve: bool = False) -> tuple[Settings, Mapping[str, str]]:
    """Return the settings that Hydra makes of ``words``, and the option of each group."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("config", list(words), return_hydra_config=True)
    chosen: Any = OmegaConf.to_container(composed.hydra.runtime.choices)
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    plain: Any = OmegaConf.to_container(composed, resolve=resolve)
    return plain, chosen


def _differences(wanted: Mapping[str, Any], base: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the overrides that turn ``base`` into ``wanted``."""
    for key, value in wanted.items():
        name = f"{path}{key}"
        if key not in base:
            yield f"+{name}={_written(value)}"
        elif isinstance(value, Mapping) and isinstance(base[key], Mapping):
            yield from _differences(value, base[key], f"{name}.")
        elif value != base[key] or isinstance(value, bool) != isinstance(base[key], bool):
            yield f"{name}={_written(value)}"
    if path.startswith(tuple(f"{group}." for group in OPEN)):
        yield from (f"~{path}{key}" for key in base if key not in wanted)


def _written(value: Any) -> str:
    """Return a value as Hydra reads it in an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if not isinstance(value, str):
        return repr(value)
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    plain = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # a backslash before an interpolation stands for none
    return str(QuotedString(plain, Quote.double).with_quotes())


def _found(settings: Settings, directory: Path) -> Settings:
    """Return the settings with files that are not here, but where the run was started, named by their whole paths."""

    def found(value: Any) -> Any:
        if isinstance(value, list):
            return [found(item) for item in value]
        if not isinstance(value, str):
            return value
        kind, colon, path = value.rpartition(":")
        there = directory / path
        moved = path and not Path(path).exists() and there.exists()
        return f"{kind}{colon}{there}" if moved else value

    return settings | {
        group: settings[group] | {name: found(settings[group][name]) for name in names if name in settings[group]}
        for group, names in NAMED.items()
    }


def _data_warnings(settings: Settings, result: Settings) -> Iterator[str]:
    """Yield a sentence for what a run or a scan read that is missing or holds something else."""
    try:
        now = inputs(settings)
        for name, digest in result.get("inputs", {}).items():
            if now.get(name) != digest:
                yield f"{name}: what it names has changed since: SHA-256 {digest} then, {now.get(name)} now"
    except InputError as error:
        yield str(error)
    evaluation = settings["eval"]
    scored = [result, *result.get("cells", [])][-1].get("tasks", {})
    for entry in evaluation["tasks"]:
        try:
            (spec,) = parse_specs([entry], mirror=evaluation["mirror"])
            documents = documents_of(spec, evaluation["max_documents"])
        except InputError as error:
            yield str(error)
            continue
        for what in ("sha256", "mirror"):
            known = scored.get(spec.name, {}).get("of", {}).get(what)
            if known != documents.get(what):
                yield f"{spec.where} has changed since: SHA-256 {known}... then, {documents.get(what)}... now"


def _machine_warnings(result: Settings) -> Iterator[str]:
    """Yield a sentence for each version and each piece of hardware that is another one."""
    here = versions()
    for name, version in result.get("versions", {}).items():
        if here.get(name) != version:
            yield f"{name}: version {version} made the run, here is {here.get(name, 'none')}"
    revision = commit()
    if result.get("commit") != revision:
        yield f"commit: {_revision(result.get('commit'))} made the run, here is {_revision(revision)}"
    elif revision and revision.endswith("-dirty"):
        yield f"commit: {_revision(revision)} made the run, and here too; whether the changes are the same is not known"
    if result.get("hardware") != hardware():
        yield f"hardware: {result.get('hardware')!r} made the run, here is {hardware()!r}; the last digits may differ"


def _revision(name: str | None) -> str:
    if name is None:
        return "an installed package"
    return f"{name.removesuffix('-dirty')[:12]}{' with changes that are not committed' * name.endswith('-dirty')}"
