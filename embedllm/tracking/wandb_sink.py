"""Weights & Biases: one W&B run for each run, whatever becomes of the network.

The group is the study, the id is that of the run. Where no account is set up, or the server does not answer, the run
is recorded offline, in its own folder, for ``wandb sync``; each such record is whole, and takes the place of those of
earlier attempts. The environment variables of W&B are respected, but for ``WANDB_RUN_ID``.
"""

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb
from hydra.utils import instantiate

from embedllm.tracking.sinks import Identity

log = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds that W&B gets to open a run, and to send what is left at its end, unless ``WANDB_INIT_TIMEOUT`` and
``WANDB_FINISH_TIMEOUT`` say otherwise."""
AGAIN_AFTER = 600.0
"""Seconds for which a server that did not answer is not asked again, so that a sweep does not wait for each job."""
OFFLINE = ("offline", "dryrun")


class WandbSink:
    """A W&B run.

    Args:
        node: the class of the logger, and its arguments.
        identity: of the run.
    """

    silent_until = 0.0
    """When (:func:`time.monotonic`) a server that did not answer is asked again; one for the process."""

    def __init__(self, node: Mapping[str, Any], identity: Identity) -> None:
        self.node = {name: value for name, value in node.items() if name != "offline"}
        if node.get("offline"):  # W&B's own way of this, which would set it for later runs of the process too
            self.node["mode"] = "offline"
        self.identity = identity
        self.logger: Any = None

    @property
    def remembers(self) -> bool:
        """Whether the server holds the numbers of an earlier attempt."""
        return bool(self.logger.experiment.resumed)

    def start(self, settings: Mapping[str, Any]) -> None:
        """Open the W&B run, or go on with it."""
        mode = self._mode()
        try:
            self.logger = self._open(mode)
        except Exception as error:
            if mode in OFFLINE:
                raise
            _leave_alone(error)
            with suppress(Exception):  # W&B's service may be what has failed
                wandb.teardown()  # or the id would be in use
            self.logger = self._open("offline")
        self.logger.log_hyperparams(dict(settings))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers."""
        self.logger.log_metrics(dict(metrics), step)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path], failed: bool) -> None:
        """Record summary and figures, and close the W&B run."""
        run = self.logger.experiment
        shown = {f"figures/{path.stem}": _shown(path) for path in figures if path.suffix in (".png", ".html")}
        if shown:
            run.log(shown)
        if figures:
            run.log_artifact(self._artifact(figures, Path(run.settings.sync_dir)))
        run.summary.update(dict(summary))
        run.finish(exit_code=int(failed))
        if run.settings.mode in OFFLINE and not failed:
            self._drop_earlier(Path(run.settings.sync_dir))

    def _artifact(self, files: Sequence[Path], record: Path) -> wandb.Artifact:
        """Return an artifact of ``files``; W&B itself would keep its copies outside of the record."""
        kind = "report" if self.identity.job_type == "report" else "figures"
        folder = record / kind
        folder.mkdir(parents=True, exist_ok=True)
        artifact = wandb.Artifact(f"{self.identity.id}-figures" if kind == "figures" else self.identity.id, type=kind)
        for path in files:
            copy = shutil.copyfile(path, folder / path.name)
            artifact.add_file(str(copy), policy="immutable", skip_cache=True)
        return artifact

    def abandon(self) -> None:
        """Close the W&B run that is open; the next one would go on with it."""
        if wandb.run is not None:
            wandb.run.finish(exit_code=1)

    def _mode(self) -> str | None:
        """Return the mode to pass to W&B; None where its own settings say it."""
        asked = self.node.get("mode") or os.environ.get("WANDB_MODE")
        if asked not in (None, "online", "run"):
            return str(asked)
        if time.monotonic() < WandbSink.silent_until:
            return "offline"
        try:
            known = wandb.login(prompt=False, verify=True)  # waits for ten seconds; opening a run, for minutes
        except wandb.Error as error:
            _leave_alone(error)
            return "offline"
        if not known and asked is None:
            log.info("logger wandb: no account is set up, so the run is recorded offline (send it with: wandb sync)")
            return "offline"
        return asked

    def _open(self, mode: str | None) -> Any:
        self.abandon()
        logger = instantiate({**self.node, **self._arguments(), "mode": mode}, _convert_="all")
        _ = logger.experiment  # opens the W&B run
        return logger

    def _arguments(self) -> dict[str, Any]:
        """Return what the program says to W&B; what the user says, in the settings or the environment, comes first."""
        identity, environment = self.identity, os.environ
        limits = {n: TIMEOUT for n in ("init_timeout", "finish_timeout") if f"WANDB_{n.upper()}" not in environment}
        tags = [*(self.node.get("tags") or []), *environment.get("WANDB_TAGS", "").split(","), *identity.tags]
        return {
            "save_dir": environment.get("WANDB_DIR") or str(identity.run.path.absolute()),  # found from anywhere
            "id": identity.id,
            "name": self.node.get("name") or environment.get("WANDB_NAME") or identity.run.path.name,
            "group": environment.get("WANDB_RUN_GROUP") or identity.study,
            "job_type": self.node.get("job_type") or environment.get("WANDB_JOB_TYPE") or identity.job_type,
            "tags": list(dict.fromkeys(tag[:64] for tag in tags if tag)),  # longer ones are refused
            "settings": {**limits, **(self.node.get("settings") or {})},
        }

    def _drop_earlier(self, current: Path) -> None:
        """Remove the offline records of earlier attempts: sent later, an older one would replace the whole one.

        One that began later is another process's, which is writing it.
        """
        for path in current.parent.glob(f"offline-run-*-{self.identity.id}*"):
            if path.name < current.name and any(path.glob(f"run-{self.identity.id}.wandb")):
                with suppress(OSError):
                    shutil.rmtree(path)


def _leave_alone(error: Exception) -> None:
    """Say that W&B does not answer, and do not ask again for a while."""
    reason = " ".join(str(error).split())
    log.warning("logger wandb: W&B does not answer, so the run is recorded offline (%s)", reason)
    WandbSink.silent_until = time.monotonic() + AGAIN_AFTER


def _shown(path: Path) -> Any:
    """Return what W&B shows of a figure or a page."""
    return wandb.Image(str(path)) if path.suffix == ".png" else wandb.Html(str(path), inject=False)
