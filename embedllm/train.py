"""The Hydra program: one run of the settings, or with ``-m`` one of each combination.

The same as ``python train.py``, for an installed package: ``python -m embedllm.train``.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises its errors instead of printing them and exiting

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from embedllm.config import Config, config_dir
from embedllm.errors import InputError, Interrupted, PeerLost
from embedllm.fine_tune import follow
from embedllm.hydra_errors import ERRORS, explain_value
from embedllm.job import dry_run, run_job
from embedllm.launch import place
from embedllm.outcomes import Outcome, report
from embedllm.runs import Busy, replace_text
from embedllm.scan_job import run_scan
from embedllm.sweep import SWEEP, Job, sentence_of, settle

log = logging.getLogger(__name__)

ConfigStore.instance().store("schema", Config)


OUTCOMES: list[Outcome] = []
"""The jobs of this process, in order."""


def main() -> int:
    """Run the program and return its exit code: 0 done, 1 a run failed, 2 bad usage or input."""
    OUTCOMES.clear()
    SWEEP.clear()
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))  # Hydra wants it first
    try:
        _program()
    except ERRORS as error:
        return _refuse(sentence_of(error))
    except InputError as error:
        return _refuse(str(error))
    except OSError as error:  # Hydra makes the study's folder before our code runs
        return _refuse(f"runs_dir: {error.filename!r} cannot be written to ({error.strerror})")
    except ValueError as error:
        if not _raised_by_hydra(error):
            raise
        return _refuse(explain_value(error, sys.argv[1:], config_dir()))
    except (KeyboardInterrupt, Interrupted) as stop:
        if place().rank == 0:
            print("interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)
    code = report(SWEEP.outcomes(OUTCOMES) if SWEEP.jobs else OUTCOMES, SWEEP.failure)
    _publish(SWEEP.tracked())
    return code


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
def _program(cfg: DictConfig) -> float | None:
    outcome = _job(cfg)
    OUTCOMES.append(outcome)
    return outcome.result["score"] if outcome.result else None


def _job(cfg: DictConfig) -> Outcome:
    """Run one job; nothing is raised, so that one bad job does not stop the others of a sweep."""
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    outcome = Outcome()
    try:
        job = settle(cfg, HydraConfig.get().runtime.choices, sweep)
        if job.scans:
            _warn_of_pooling()
        if place().rank > 0:
            _follow(job)
            return outcome
        if job.config.dry_run:
            _print_estimate(job.config)
            return outcome
        outcome.folder = job.folder()
        outcome.result = job.finished(outcome.folder)
        if outcome.result is not None:
            log.info("%s: already done", outcome.folder.path)
        else:
            make = run_scan if job.scans else run_job
            outcome.result = make(job.config, job.plain, job.choices, outcome.folder)
    except Busy as error:  # its folder is another's
        outcome.error, outcome.bad_input = str(error), True
    except (InputError, OmegaConfBaseException) as error:
        outcome.error, outcome.bad_input = sentence_of(error), True
        if sweep:
            _record_failure(outcome, outcome.error)
    except Exception as error:
        outcome.error = _sentence(error)
        _record_failure(outcome, traceback.format_exc())
        if not outcome.recorded and not isinstance(error, OSError):
            log.error("%s", traceback.format_exc())
    return outcome


def _publish(studies: Sequence[Path]) -> None:
    """Write the report of each study that a sweep has on W&B, and record it there."""
    if not studies or place().rank > 0 or os.environ.get("WANDB_MODE") == "disabled":
        return
    from embedllm.dashboard import report_and_publish

    for study in studies:
        report_and_publish(study)


def _warn_of_pooling() -> None:
    """Say that a head that was chosen on the command line of a scan is not what is scanned."""
    typed = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] == "pooling"]
    if typed and not OUTCOMES:  # once in a sweep
        log.warning("%s has no effect on a scan; scan.poolings names its heads", typed[0])


def _print_estimate(config: Config) -> None:
    """Print what a training will take; the folder that Hydra made for it is removed if nothing is in it."""
    try:
        print(dry_run(config))
    finally:
        folder = Path(HydraConfig.get().runtime.output_dir)
        if [path.name for path in folder.iterdir()] == ["multirun.yaml"]:  # Hydra's, of a sweep
            (folder / "multirun.yaml").unlink()
        with suppress(OSError):  # there is something in them
            folder.rmdir()
            folder.parent.rmdir()


def _sentence(error: Exception) -> str:
    """Return the first line of what went wrong; of a failed access, the path and the reason of the system."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}".splitlines()[0]
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _follow(job: Job) -> None:
    """Do what the processes of a run besides the first do: they train with it, quietly, and nothing else."""
    logging.getLogger("embedllm").setLevel(logging.ERROR)
    if not job.config.dry_run and not job.scans:
        with suppress(PeerLost):  # it has told the user why
            follow(job.config, job.plain, job.folder())


def _record_failure(outcome: Outcome, text: str) -> None:
    """Write ``error.txt``; that the folder cannot be made may be what the error is about."""
    if outcome.folder is None or outcome.folder.read_result() is not None:  # a finished run stays one
        return
    try:
        outcome.folder.create()
        replace_text(outcome.folder.error, text.rstrip() + "\n")
        outcome.recorded = True
    except (InputError, OSError) as error:
        log.error("error.txt could not be written: %s", error)


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


def _raised_by_hydra(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "hydra" in Path(frames[-1].filename).parts


if __name__ == "__main__":
    sys.exit(main())
