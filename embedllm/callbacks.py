"""What happens around the steps: a bar, rows of metrics, checkpoints, and a stop that loses nothing."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm.auto import tqdm

from embedllm.checkpoint import CHECKPOINT
from embedllm.embedder import Embedder
from embedllm.errors import Interrupted
from embedllm.module import EmbedderModule
from embedllm.processes import Processes
from embedllm.runs import RunFolder
from embedllm.tracking import Tracker

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask a training to stop."""


class ProgressBar(Callback):
    """Steps, the time left, pairs per second and the loss."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step that was reached before."""
        done = trainer.global_step
        self.bar = tqdm(total=trainer.max_steps, initial=done, desc="train", unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Advance by one step."""
        module = embedder_module(pl_module)
        totals = module.totals
        rate = totals.timed_pairs / totals.timed_seconds if totals.timed_seconds else totals.pairs / totals.seconds
        self.bar.set_postfix_str(f"{rate:.1f} pairs/s, loss {module.last['train/loss']:.3f}", refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self.bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message starts on a line of its own."""
        if hasattr(self, "bar"):
            self.bar.close()


class LogMetrics(Callback):
    """Hand the numbers of each step to the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what an earlier attempt logged after the step that is resumed from."""
        reached = trainer.global_step
        self.tracker.keep(lambda step, _: step <= reached)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log the step that was just made."""
        self.tracker.log(embedder_module(pl_module).last, step=trainer.global_step)


class Snapshots(Callback):
    """Keep the model as it is after some steps; it is made again when the training goes on from before that step.

    Args:
        run: whose ``steps/`` they go to.
        steps: that are kept.
        processes: those of the training, the first of which writes.
    """

    def __init__(self, run: RunFolder, steps: Sequence[int], processes: Processes) -> None:
        self.run, self.steps, self.processes = run, steps, processes

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write the model beside its place and move it there, if its step is one of those."""
        if trainer.global_step in self.steps:
            embedder, folder = embedder_module(pl_module).embedder, self.run.snapshot(trainer.global_step)
            self.processes.by_first(lambda: _save_whole(embedder, folder))


def _save_whole(embedder: Embedder, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    embedder.save(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


class Checkpoints(Callback):
    """Write ``last.ckpt`` every so many steps, at the end, and when SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 asks to stop.

    Queues send one of them before a time limit; where a launcher has a handler of its own for one, that stays. A
    signal takes effect after the step that is running, so the checkpoint always holds whole steps; a second SIGINT
    ends the process at once. A signal to one process stops all, and the first of them writes.

    Args:
        folder: of the checkpoint.
        every: steps; None: only at the end or when stopped.
        processes: those of the training; None: this one is alone.
    """

    def __init__(self, folder: Path, every: int | None, processes: Processes | None = None) -> None:
        self.folder, self.every, self.processes = folder, every, processes or Processes()
        self.signal: int | None = None
        self.at_once = False
        self.found = {number: signal.getsignal(number) for number in STOPS}
        self.before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.folder / CHECKPOINT

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals; Lightning's own handler would stop in the middle of a step."""
        for number, handler in self.found.items():
            ours = number == signal.SIGINT or handler == signal.SIG_DFL
            self.before[number] = signal.signal(number, self._remember if ours else handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        if self.at_once:
            raise Interrupted(number)
        if number == signal.SIGINT and self.processes.first:
            with suppress(OSError):  # print() could be what the signal came into
                os.write(2, b"\nstops after this step, which it keeps; Ctrl-C again stops at once\n")

    @contextmanager
    def stopping_at_once(self) -> Iterator[None]:
        """Let a signal take effect at once: nothing but what can be made again is under way."""
        self.at_once = True
        try:
            yield
        finally:
            self.at_once = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save if it is time to, and stop if a signal came."""
        done = trainer.global_step
        due = done == trainer.max_steps or (self.every is not None and done % self.every == 0)
        stop = self.processes.highest(self.signal or 0)
        if due or stop:
            self.save(trainer)
        if stop:
            raise Interrupted(stop)

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint of the step that was just made."""
        self.processes.by_first(lambda: trainer.save_checkpoint(self.path))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()


def embedder_module(module: LightningModule) -> EmbedderModule:
    """Return the module as what it is here."""
    assert isinstance(module, EmbedderModule)
    return module
