"""``metrics.csv``, and the sinks that get what it gets.

A sink that fails (no network, a service that is down) is dropped with a warning; it never stops a run.
"""

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from embedllm.runs import RunFolder, replace_text
from embedllm.tracking.sinks import Sink

log = logging.getLogger(__name__)


class Tracker:
    """Append metrics to ``metrics.csv`` (columns ``step,metric,value``), and hand them to ``sinks``.

    What earlier attempts wrote into ``metrics.csv`` is told to every sink that has no memory of them, so that its
    record of the run is whole.

    Args:
        run: the folder of the run.
        sinks: by name.
    """

    def __init__(self, run: RunFolder, sinks: Mapping[str, Sink] | None = None) -> None:
        self.path = run.metrics
        self.sinks = dict(sinks or {})
        self.caught_up = False
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
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            whole = [line for line in file if line.endswith("\n")]  # the last one of a killed run may be half a row
        return [row for row in csv.reader(whole) if len(row) == 3 and row[0].isdigit()]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record ``metrics`` at an optimizer ``step``."""
        self._catch_up()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([step, name, repr(float(value))] for name, value in metrics.items())
        self._each(lambda sink: sink.log(metrics, step))

    def start(self, settings: Mapping[str, Any]) -> None:
        """Open the sinks and tell them the settings of the run."""
        self._each(lambda sink: sink.start(settings))

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path] = (), failed: bool = False) -> None:
        """Close the sinks.

        Args:
            summary: what dashboards sort by.
            figures: files that show more of the run.
            failed: the run has no result yet.
        """
        self._catch_up()
        self._each(lambda sink: sink.finish(summary, figures, failed))

    def _catch_up(self) -> None:
        """Tell the earlier attempts; not before the first row of this one, when the rows to drop are dropped."""
        if not self.caught_up and self.sinks:
            batches = list(_batches(self._rows()))
            self._each(lambda sink: _tell(sink, batches))
        self.caught_up = True

    def _each(self, act: Callable[[Sink], None]) -> None:
        for name, sink in list(self.sinks.items()):
            try:
                act(sink)
            except Exception as error:  # whatever a third party's service raises
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                log.warning("logger %s failed and is left out from here on: %s", name, reason)
                del self.sinks[name]
                with suppress(Exception):
                    sink.abandon()


class NoTracker(Tracker):
    """Writes no ``metrics.csv``: for the processes of a training besides the first, and for what has no numbers.

    Args:
        sinks: by name.
    """

    def __init__(self, sinks: Mapping[str, Sink] | None = None) -> None:
        self.sinks = dict(sinks or {})
        self.caught_up = True

    def keep(self, wanted: Callable[[int, str], bool]) -> None:
        """Drop nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record nothing."""


def _tell(sink: Sink, batches: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    if not sink.remembers:
        for step, metrics in batches:
            sink.log(metrics, step)


def _batches(rows: Sequence[Sequence[str]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each step with its metrics; what was logged at one step at different times comes in two parts."""
    for step, group in groupby(rows, key=lambda row: int(row[0])):
        yield step, {name: float(value) for _, name, value in group}
