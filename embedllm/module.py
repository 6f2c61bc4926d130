"""Contrastive fine-tuning as a LightningModule: the step, the schedule, and what a checkpoint holds."""

import gc
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from embedllm.data.tables import Pair
from embedllm.datamodule import StepBatch
from embedllm.engine import ContrastiveStep, StepReport
from embedllm.errors import InputError
from embedllm.losses import Temperature

log = logging.getLogger(__name__)

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Schedule = Callable[[int], float]
"""Optimizer step, from 0, to the factor of the learning rate."""


class NonFiniteError(RuntimeError):
    """The loss or its gradient is NaN or infinite."""

    def __init__(self, message: str, step: int, pairs: list[list[Pair]]) -> None:
        super().__init__(message)
        self.step = step
        self.pairs = pairs


@dataclass
class TrainingTotals:
    """What the training cost so far, over all attempts; saved in checkpoints."""

    steps: int = 0
    pairs: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0
    timed_pairs: int = 0
    timed_seconds: float = 0.0
    """Without the first step of each attempt, which warms up."""


class EmbedderModule(LightningModule):
    """Fine-tune an embedder.

    Args:
        step: the contrastive step; the parameters trained are those of its embedder and loss that require gradients.
        optimizer: called with these parameters.
        schedule: see :func:`warmup_schedule`.
        clip: largest norm of the gradient; None: not clipped.
        seed: of the run; dropout depends on it and on the step alone.
        resumes_cut: take the size of micro-batches from the checkpoint.
    """

    def __init__(
        self,
        step: ContrastiveStep,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: float | None,
        seed: int,
        resumes_cut: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the engine calls backward, once for each micro-batch
        self.strict_loading = False  # checkpoints hold trainable weights only
        self.embedder, self.loss, self.step = step.embedder, step.loss, step
        self.make_optimizer, self.schedule, self.clip, self.seed = optimizer, schedule, clip, seed
        self.totals, self.resumes_cut = TrainingTotals(), resumes_cut
        self.last: dict[str, float] = {}
        self._fresh = True
        self.train()  # from_pretrained() returns eval mode and Lightning keeps it: dropout would stay off

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; the learning rate is set before each step, as a function of the step alone."""
        optimizer = self.make_optimizer(self.trainable().values())
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
        return optimizer

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """Train on the pools of one optimizer step."""
        begin = time.perf_counter()
        number = self.global_step
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        reports = self._gradients(batch, number)
        loss = sum(report.loss for report in reports) / len(reports)
        norm = self._gradient_norm(number)
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm}"
            raise NonFiniteError(f"step {number}: {what}{self._cause(batch)}", number, batch.pairs)
        if loss == 0:
            log.warning(
                "step %d trains nothing, as its loss is 0: no pair has a negative (all texts or labels are equal), or "
                "every positive is told from the negatives already",
                number,
            )
        rate = self.schedule(number)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate
        optimizer.step()
        self._count(batch, reports, time.perf_counter() - begin)
        self.last = {"train/loss": loss, "train/grad_norm": norm, "train/lr": optimizer.param_groups[0]["lr"]}
        for module in self.loss.modules():
            if isinstance(module, Temperature) and module.log is not None:
                self.last["train/temperature"] = float(module.log.detach().exp())

    def _gradients(self, batch: StepBatch, number: int) -> list[StepReport]:
        """Leave the gradients of the step; where memory runs out, begin it anew in a way that takes less."""
        scale = 1 / len(batch.pools)
        while True:
            try:
                reports = [self.step(p, key=(self.seed, number, i), scale=scale) for i, p in enumerate(batch.pools)]
            except torch.OutOfMemoryError:
                self.zero_grad()
            else:
                self.step.share_gradients()
                return reports
            gc.collect()  # what the traceback held
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            setting = self.step.save_memory(batch.pools)
            log.warning(
                "step %d ran out of memory and is made again with %s, which changes no gradient", number, setting
            )

    def _cause(self, batch: StepBatch) -> str:
        """Return what is the first not to be finite: a weight, the vector of a text, or a gradient."""
        for name, parameter in self.named_parameters():
            if not torch.isfinite(parameter).all():
                return f", as the weight {name!r} is not finite (is optimizer.lr too high?)"
        texts = dict.fromkeys(text for pairs in batch.pairs for pair in pairs for text in (pair.anchor, pair.positive))
        vectors = self.embedder.eval().encode(list(texts))
        bad = [text for text, vector in zip(texts, vectors, strict=True) if not math.isfinite(float(vector.sum()))]
        if bad:
            return f", as the vector of {bad[0][:60]!r} is not finite"
        names = [
            name for name, p in self.trainable().items() if p.grad is not None and not torch.isfinite(p.grad).all()
        ]
        return f", as the gradient of {names[0]!r} is not finite" if names else ""

    def _gradient_norm(self, number: int) -> float:
        parameters = self.trainable()
        missing = [name for name, parameter in parameters.items() if parameter.grad is None]
        if number == 0 and missing:
            raise RuntimeError(f"no gradient reached {len(missing)} trainable tensors, among them {missing[0]}")
        norm: Tensor = nn.utils.clip_grad_norm_(parameters.values(), math.inf if self.clip is None else self.clip)
        return float(norm)

    def _count(self, batch: StepBatch, reports: list[Any], seconds: float) -> None:
        pairs, totals = sum(map(len, batch.pairs)), self.totals
        totals.steps += 1
        totals.pairs += pairs
        totals.tokens += sum(report.tokens for report in reports)
        totals.padded_tokens += sum(report.padded_tokens for report in reports)
        totals.seconds += seconds
        if not self._fresh:
            totals.timed_pairs += pairs
            totals.timed_seconds += seconds
        self._fresh = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trainable weights only, and the totals."""
        trainable = self.trainable()
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trainable}
        checkpoint["totals"] = asdict(self.totals)
        checkpoint["micro_batch_tokens"] = self.step.micro_batch_tokens
        checkpoint["grad_cache"] = self.step.grad_cache

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model."""
        state = checkpoint["state_dict"]
        if missing := sorted(set(self.trainable()) ^ set(state)):
            raise InputError(
                f"checkpoint: it does not fit the model, as {missing[0]!r} is in one of them only; remove the folder "
                "checkpoints of the run to start the training anew"
            )
        self.totals = TrainingTotals(**checkpoint["totals"])
        if self.resumes_cut:
            self.step.micro_batch_tokens = checkpoint.get("micro_batch_tokens", self.step.micro_batch_tokens)
            self.step.grad_cache |= checkpoint.get("grad_cache", False)


def warmup_schedule(kind: str, warmup: int, max_steps: int) -> Schedule:
    """Return the factor of the learning rate at each step.

    It rises linearly over ``warmup`` steps, then stays (``constant``) or falls to zero at ``max_steps`` (``linear``,
    ``cosine``).
    """
    shapes: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "linear": lambda done: 1.0 - done,
        "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
    }
    if kind not in shapes:
        raise InputError(f"trainer.schedule: {kind!r} is not one of {', '.join(shapes)}")
    if warmup >= max_steps > 0:
        raise InputError(f"trainer.warmup: {warmup} steps, but trainer.max_steps is {max_steps}")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return shapes[kind]((step - warmup) / max(1, max_steps - warmup))

    return factor
