"""What a tracker hands its numbers to: a logger of Lightning, with what is special to TensorBoard."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from embedllm.runs import RunFolder

LONGEST_ID = 64
"""Characters; W&B takes 128, and makes file names of them."""


@dataclass(frozen=True)
class Identity:
    """Which run of which study is recorded, and what a dashboard files it under."""

    run: RunFolder
    study: str
    job_type: str
    """``score``, ``train`` or ``scan``; ``report`` for what is of the whole study."""
    tags: Sequence[str] = ()

    @property
    def id(self) -> str:
        """The same for each attempt at the run, on every machine: study and folder name, in letters W&B allows."""
        name = f"{self.study}-{self.run.path.name}"
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
        if plain == name and len(name) <= LONGEST_ID:
            return name
        return f"{plain[: LONGEST_ID - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


class Sink(Protocol):
    """Gets the settings of a run first, then its numbers, then the end."""

    @property
    def remembers(self) -> bool:
        """Whether it holds the numbers of earlier attempts."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """Open the record."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add numbers to it."""

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path], failed: bool) -> None:
        """Close it."""

    def abandon(self) -> None:
        """Close it after an error, so that the next run does not end up in it."""


class LoggerSink:
    """A logger of Lightning, whatever it writes to.

    Args:
        logger: to wrap.
    """

    remembers = True
    """Nobody knows; numbers that stand there twice are worse than numbers that are only in ``metrics.csv``."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def start(self, settings: Mapping[str, Any]) -> None:
        """Record the settings."""
        self.logger.log_hyperparams(dict(settings))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers."""
        self.logger.log_metrics(dict(metrics), step)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path], failed: bool) -> None:
        """Close the logger."""
        self.logger.finalize("failed" if failed else "success")

    def abandon(self) -> None:
        """Close the logger."""
        self.logger.finalize("failed")


class TensorBoardSink(LoggerSink):
    """TensorBoard's event files, with the settings and the summary for its HPARAMS page.

    That page takes the settings and the names of the metrics once for each folder, so they are written at the end,
    when both are known, and each attempt at a run writes its folder anew.
    """

    remembers = False

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self.settings: dict[str, Any] = {}
        self.step = 0

    def start(self, settings: Mapping[str, Any]) -> None:
        """Remove the files of an earlier attempt."""
        self.settings = dict(settings)
        for path in Path(self.logger.log_dir).glob("events.out.tfevents.*"):
            path.unlink()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers."""
        self.step = max(self.step, step)
        super().log(metrics, step)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path], failed: bool) -> None:
        """Record settings and summary, and close the logger."""
        numbers = {name: value for name, value in summary.items() if isinstance(value, (int, float))}
        if numbers:
            self.logger.log_hyperparams(self.settings, numbers, self.step)
        super().finish(summary, figures, failed)
