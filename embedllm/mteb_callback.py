"""Scores during a training: MTEB tasks and local files in the loop, without touching a bit of the training."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from embedllm.callbacks import Checkpoints, embedder_module
from embedllm.embedder import Embedder
from embedllm.module import EmbedderModule
from embedllm.selection import Entries, Selection
from embedllm.tracking import Tracker

log = logging.getLogger(__name__)

Score = Callable[[Embedder], Entries]
"""Returns the entries of the development tasks, by name."""


class MTEBCallback(Callback):
    """Score the development tasks every so many steps, at the start and at the end, and hand them to the selection.

    The random states are left as they were and every draw of the training is keyed by its step, so the weights of a
    step are the same with and without this callback. A checkpoint is written first: a signal during an evaluation
    ends the run at once, and it is the evaluation that is made again.

    Args:
        score: scores an embedder.
        selection: gets scores and weights.
        every: steps.
        tracker: gets ``dev/<task>`` and ``dev/mean``.
        checkpoints: the callback that saves; it must come before this one. The first of its processes scores, and the
            others wait for it.
    """

    def __init__(
        self, score: Score, selection: Selection, every: int, tracker: Tracker, checkpoints: Checkpoints
    ) -> None:
        self.score, self.selection, self.every = score, selection, every
        self.tracker, self.checkpoints = tracker, checkpoints

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the model that training starts from, if that has not been done."""
        if self._due(trainer):
            self.complete(trainer.global_step, embedder_module(pl_module))
        trainer.should_stop = self._exhausted()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Score the model if it is time to, and stop if it has not become better for too long."""
        if self._due(trainer):
            self.checkpoints.save(trainer)
            step, module = trainer.global_step, embedder_module(pl_module)
            self.checkpoints.processes.by_first(lambda: self._evaluate(step, module))
            trainer.should_stop = trainer.should_stop or self._exhausted()

    def complete(self, reached: int, module: EmbedderModule) -> None:
        """Score the model at the step that a checkpoint was read from, unless that was done before the interruption."""
        self.checkpoints.processes.by_first(lambda: self._complete(reached, module))

    def _complete(self, reached: int, module: EmbedderModule) -> None:
        if reached not in self.selection.entries:
            self.tracker.keep(lambda step, name: step < reached or not name.startswith("dev/"))
            self._evaluate(reached, module)

    def _exhausted(self) -> bool:
        """Return whether the first process, whose selection it is, wants to stop."""
        processes = self.checkpoints.processes
        return bool(processes.highest(int(processes.first and self.selection.exhausted())))

    def _due(self, trainer: Trainer) -> bool:
        return trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps

    def _evaluate(self, step: int, module: EmbedderModule) -> None:
        log.info("development tasks at step %d", step)
        with self.checkpoints.stopping_at_once(), _evaluation_mode(module):
            entries = self.score(module.embedder)
        failed = {name: entry["error"] for name, entry in entries.items() if "error" in entry}
        if failed:
            name, reason = next(iter(failed.items()))
            raise RuntimeError(f"eval.dev: {name} was not scored at step {step}: {reason}")
        scores = {f"dev/{name}": float(entry["main_score"]) for name, entry in entries.items()}
        self.tracker.log({**scores, "dev/mean": sum(scores.values()) / len(scores)}, step)
        self.selection.record(step, entries, module.trainable())


@contextmanager
def _evaluation_mode(module: EmbedderModule) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
