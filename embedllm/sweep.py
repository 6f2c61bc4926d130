"""The jobs of a sweep: settled before the first one starts, written into the study's folder, and told of at its end."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from embedllm.config import Config, check_known, check_values, config_dir
from embedllm.errors import InputError
from embedllm.hydra_errors import ERRORS, explain
from embedllm.job import finished, run_folder
from embedllm.launch import place
from embedllm.outcomes import Outcome
from embedllm.recipe import task_specs
from embedllm.report.tables import flatten
from embedllm.run_lock import holder
from embedllm.runs import RunFolder
from embedllm.scan_job import finished_scan, scan_folder
from embedllm.scan_settings import check_scan
from embedllm.study import PlannedRun, StudyFolder, kind_of, read_error
from embedllm.tracking.loggers import wandb_nodes

log = logging.getLogger(__name__)

Settings = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The settings of one job, checked as far as they can be without a model."""

    plain: Settings
    config: Config
    choices: dict[str, str]
    """The option that was chosen in each group; see :func:`choices_of`."""

    @property
    def scans(self) -> bool:
        """Whether it is a scan."""
        return bool(self.config.scan.poolings)

    def folder(self) -> RunFolder:
        """Return where the job's results go.

        Raises:
            InputError: a file that the settings name is missing.
        """
        return (scan_folder if self.scans else run_folder)(self.plain, self.choices)

    def finished(self, folder: RunFolder) -> Settings | None:
        """Return the result if the job is done. Imports neither torch nor mteb."""
        return (finished_scan if self.scans else finished)(self.config, folder)

    def outcome(self) -> Outcome:
        """Return the folder, and the result if there is one."""
        folder = self.folder()
        return Outcome(folder, self.finished(folder))


def settle(cfg: DictConfig, chosen: Mapping[str, Any], sweep: bool) -> Job:
    """Return the job of composed settings.

    Args:
        cfg: the settings without Hydra's own.
        chosen: Hydra's ``runtime.choices``.
        sweep: whether the job is one of several.

    Raises:
        InputError: naming the setting that is wrong.
        OmegaConfBaseException: the same, of one that cannot be resolved.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_known(plain)
    config: Any = OmegaConf.to_object(cfg)
    job = Job(plain, config, choices_of(plain, chosen))
    if job.scans:
        check_scan(config, job.choices)
    _check_devices(config, sweep)
    check_values(config)
    return job


def choices_of(plain: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return the option that was chosen in each group; a value that is not the option's own has another name."""
    found = {
        group: option for group, option in chosen.items() if isinstance(option, str) and not group.startswith("hydra/")
    }
    if found.get("prompt") is None or _yaml_value("prompt", found["prompt"], "template") != plain["prompt"]["template"]:
        found["prompt"] = "custom"
    if found.get("model") is None or _yaml_value("model", found["model"], "name") != plain["model"]["name"]:
        found["model"] = Path(plain["model"]["name"]).name
    return {"pooling": "custom", **found}


def setting_names() -> list[str]:
    """Return the names of all settings and groups, for suggestions."""
    schema: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    names = [*schema, *flatten(schema)]
    for path in config_dir().glob("*/*.yaml"):  # the open groups have what their options have
        values: Any = OmegaConf.to_container(OmegaConf.load(path))
        own = {str(name): value for name, value in values.items() if name != "defaults"}
        names += [f"{path.parent.name}.{name}" for name in flatten(own)]
    return list(dict.fromkeys(names))


def sentence_of(error: Exception) -> str:
    """Return one sentence for an InputError or an error of Hydra or OmegaConf."""
    return explain(error, setting_names()) if isinstance(error, ERRORS) else str(error)


@dataclass
class Sweep:
    """The jobs of the sweep that this process started, in order."""

    jobs: list["SweepJob"] = field(default_factory=list)
    failure: str | None = None
    """Why the launcher stopped before all jobs were done."""

    def clear(self) -> None:
        """Forget an earlier sweep of this process."""
        self.jobs.clear()
        self.failure = None

    def add(self, overrides: Sequence[str], composed: DictConfig, words: Sequence[str]) -> None:
        """Add a job.

        Args:
            overrides: what Hydra calls the job: the same for all jobs, and what is swept over.
            composed: its settings, with Hydra's own.
            words: those of ``overrides`` that are not the same for all jobs.
        """
        study = composed.get("study")
        job = SweepJob(tuple(overrides), list(words), Path(composed.runs_dir).expanduser() / str(study))
        self.jobs.append(job)
        chosen = dict(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        try:
            job.settled = settle(composed, chosen, sweep=True)
            if not job.settled.config.dry_run:
                job.outcome = job.settled.outcome()
        except (InputError, OmegaConfBaseException) as error:
            job.outcome = Outcome(error=sentence_of(error), bad_input=True)

    def write(self, words: Sequence[str]) -> None:
        """Write the plan into the folders of the studies; none for a dry run.

        Args:
            words: the settings of the whole sweep.
        """
        studies: dict[Path, list[PlannedRun]] = {}
        for job in self.jobs:
            if not job.is_dry and place().rank == 0:
                studies.setdefault(job.study, []).append(job.planned())
        for path, runs in studies.items():
            try:
                StudyFolder(path).write_plan(words, runs)
            except OSError as error:
                raise InputError(f"runs_dir: {str(path)!r} cannot be written to ({error.strerror})") from error

    def tracked(self) -> list[Path]:
        """Return the folders of the studies that have jobs on W&B."""
        found = []
        for job in self.jobs:
            if job.settled is not None and not job.is_dry and wandb_nodes(job.settled.config.logger):
                found.append(job.study)
        return list(dict.fromkeys(found))

    def is_settled(self, overrides: Sequence[str]) -> bool:
        """Return whether nothing is left to do for a job: it is done, or cannot be."""
        job = next(job for job in self.jobs if job.overrides == tuple(overrides))
        return job.outcome is not None and (job.outcome.result is not None or job.outcome.error is not None)

    def outcomes(self, made: Sequence[Outcome]) -> list[Outcome]:
        """Return what became of each job.

        Args:
            made: of the jobs that this process made, in order; those of others are read from their folders.
        """
        left = iter(made)
        found = []
        for job in self.jobs:
            if job.outcome is not None and self.is_settled(job.overrides):
                found.append(job.outcome)
            else:
                found.append(next(left, None) or job.read())
            if job.settled is not None and not job.settled.scans:
                found[-1].asked = (job.settled.plain, job.settled.choices)
        return found


@dataclass
class SweepJob:
    """One job of a sweep."""

    overrides: tuple[str, ...]
    words: list[str]
    study: Path
    """The folder of its study."""
    settled: Job | None = None
    outcome: Outcome | None = None
    """As it was before the sweep started."""

    @property
    def is_dry(self) -> bool:
        """Whether it only says what it would take."""
        return self.settled is not None and self.settled.config.dry_run

    def planned(self) -> PlannedRun:
        """Return what the plan says of it."""
        if self.settled is None or self.outcome is None or self.outcome.folder is None:
            return PlannedRun(None, self.words, error=self.outcome.error if self.outcome else None)
        settled, name = self.settled, self.outcome.folder.path.name
        tasks = [spec.name for spec in task_specs(settled.config)]
        found = PlannedRun(name, self.words, tasks, kind_of(settled.plain))
        return found if settled.scans else replace(found, config=settled.plain, choices=settled.choices)

    def read(self) -> Outcome:
        """Return what another process made of it."""
        if self.settled is None or self.is_dry:
            return Outcome()
        found = self.settled.outcome()
        if found.result is None and found.folder is not None:
            if (seen := holder(found.folder.lock)) is not None:
                found.error = f"a process on {seen.host} is still at work on it"
            else:
                found.error = read_error(found.folder) or "was not made; the same command again makes it"
                found.recorded = found.folder.error.exists()
        return found


def _check_devices(config: Config, sweep: bool) -> None:
    count, local = place().count, place().local_count
    if sweep and max(config.trainer.devices, count) > 1:
        raise InputError(
            f"trainer.devices: {max(config.trainer.devices, count)} with -m, but a sweep gives each run one device; "
            "use trainer.devices=1, or start runs on several devices one by one"
        )
    if count > 1 and config.trainer.devices not in (1, local):
        raise InputError(
            f"trainer.devices: {config.trainer.devices}, but torchrun started {local} processes on this machine; "
            "leave the setting out"
        )


def _yaml_value(group: str, option: str, key: str) -> Any:
    path = config_dir() / group / f"{option}.yaml"
    return OmegaConf.select(OmegaConf.load(path), key) if path.is_file() else None


SWEEP = Sweep()
"""Of this process; empty without one."""
