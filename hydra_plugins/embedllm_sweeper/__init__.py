"""Hydra's basic sweeper, which plans a study first and launches only what is missing of it."""

import logging
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

log = logging.getLogger(__name__)


class StudySweeper(BasicSweeper):
    """Make each combination of the settings, as the basic sweeper does.

    Before the first job starts, all are composed, and the study's folder says what it is to contain. Jobs that are done
    already, and those whose settings are refused, are not handed to the launcher.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Set the launcher up."""
        _check_installed(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.launcher is not None
        self.launcher = OnlyMissing(self.launcher)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose the jobs of all batches when the first one comes, and write the plan."""
        if self.batch_index > 1:
            return
        from embedllm.sweep import SWEEP

        assert self.overrides is not None
        assert self.hydra_context is not None
        assert self.config is not None
        jobs = [list(job) for jobs in self.overrides for job in jobs]
        same = set(jobs[0]).intersection(*jobs)
        for job in jobs:
            composed = self.hydra_context.config_loader.load_sweep_config(self.config, job)
            SWEEP.add(job, composed, [word for word in job if word not in same])
        SWEEP.write(sorted({word for job in jobs for word in job}))


def _check_installed(config: DictConfig) -> None:
    """Raise an InputError if the package of the launcher is not there."""
    from hydra.core.plugins import Plugins

    target = str(config.hydra.launcher._target_)
    if target in Plugins.instance().class_name_to_class:
        return
    from embedllm.errors import InputError

    option = config.hydra.runtime.choices["hydra/launcher"]
    extra = next((extra for extra in ("joblib", "submitit", "ray") if extra in target), "joblib,submitit,ray")
    raise InputError(f"hydra/launcher: {option!r} needs a package that is not here; pip install 'embedllm[{extra}]'")


class OnlyMissing:
    """Hands a launcher the jobs that are not done; what stops it is kept, so that the others can be told of."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch what is missing."""
        from embedllm.sweep import SWEEP

        left = [job for job in job_overrides if not SWEEP.is_settled(job)]
        if len(left) < len(job_overrides):
            log.info("%d of %d jobs are done or cannot be made", len(job_overrides) - len(left), len(job_overrides))
        if not left:
            return []
        try:
            return self.launcher.launch(left, initial_job_idx)
        except Exception as error:  # a worker that was killed, a queue that refuses: each launcher has its own
            first = (str(error).strip().splitlines() or [""])[0]
            SWEEP.failure = (
                f"the launcher stopped ({type(error).__name__}: {first}); the same command goes on from here"
            )
            return []
