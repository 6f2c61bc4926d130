"""Where numbers go: ``metrics.csv``, always, and the loggers of the ``logger`` group on top of it.

A logger that fails (no network, a service that is down) is dropped with a warning; it never stops a run.
"""

import csv
import inspect
import io
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import instantiate

from embedllm.runs import RunFolder, replace_text
from embedllm.targets import locate

log = logging.getLogger(__name__)


class Tracker:
    """Append metrics to ``metrics.csv`` (columns ``step,metric,value``), and hand them to ``loggers``.

    Args:
        run: the folder of the run.
        loggers: Lightning loggers by name.
    """

    def __init__(self, run: RunFolder, loggers: Mapping[str, Any] | None = None) -> None:
        self.path = run.metrics
        self.loggers = dict(loggers or {})
        self.keep(lambda step, name: True)

    def keep(self, wanted: Callable[[int, str], bool]) -> None:
        """Drop the rows of an earlier attempt whose step and metric are not ``wanted``."""
        rows = [row for row in self._rows() if wanted(int(row[0]), row[1])]
        text = io.StringIO()
        csv.writer(text).writerows([["step", "metric", "value"], *rows])
        replace_text(self.path, text.getvalue())

    def _rows(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            # the last row of a killed run may be half a row
            return [row for row in csv.reader(file) if len(row) == 3 and row[0].isdigit()]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record ``metrics`` at an optimizer ``step``."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([step, name, repr(float(value))] for name, value in metrics.items())
        self._each(lambda logger: logger.log_metrics(dict(metrics), step))

    def start(self, settings: Mapping[str, Any]) -> None:
        """Record the settings of the run with the loggers."""
        self._each(lambda logger: logger.log_hyperparams(dict(settings)))

    def finish(self, summary: Mapping[str, Any], failed: bool = False) -> None:
        """Close the loggers; ``summary`` is what dashboards sort by."""

        def close(logger: Any) -> None:
            if hasattr(logger.experiment, "summary"):
                logger.experiment.summary.update(dict(summary))
            logger.finalize("failed" if failed else "success")
            if type(logger).__name__ == "WandbLogger":
                import wandb

                wandb.finish(exit_code=int(failed))  # an open run would receive the metrics of the next one

        self._each(close)

    def _each(self, act: Callable[[Any], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                act(logger)
            except Exception as error:  # whatever a third party's service raises
                log.warning("logger %s failed and is left out from here on: %s", name, error)
                del self.loggers[name]


class NoTracker(Tracker):
    """Records nothing: what the processes of a training besides the first have."""

    def __init__(self) -> None:
        self.loggers = {}

    def keep(self, wanted: Callable[[int, str], bool]) -> None:
        """Drop nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record nothing."""


def build_loggers(nodes: Mapping[str, Mapping[str, Any]], run: RunFolder, study: str) -> dict[str, Any]:
    """Build the loggers of the ``logger`` group; those with a run id continue the same run when the job is resumed."""
    loggers = {}
    for name, node in nodes.items():
        arguments: dict[str, Any] = {"save_dir": str(run.path)}
        if "id" in inspect.signature(locate(node["_target_"])).parameters:
            arguments |= {"id": f"{study}-{run.path.name}", "name": run.path.name, "group": study}
        if node["_target_"].endswith("WandbLogger"):
            arguments |= _wandb_arguments()
        loggers[name] = instantiate(dict(node), **arguments, _convert_="all")
    return loggers


def _wandb_arguments() -> dict[str, Any]:
    """Without an account W&B would ask for one: record offline, unless ``WANDB_MODE`` says otherwise."""
    import wandb

    if "WANDB_MODE" in os.environ or wandb.login(prompt=False):
        return {}
    log.info("logger wandb: no account is set up, so the run is recorded offline (send it later with: wandb sync)")
    return {"mode": "offline"}
