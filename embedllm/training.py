"""Fine-tune an embedder on a table of pairs, resuming where an earlier attempt stopped."""

import json
import logging
import math
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer

from embedllm.backbone import resolve_dtype, trains_fast_in_bfloat16
from embedllm.callbacks import Checkpoints, LogMetrics, ProgressBar, Snapshots
from embedllm.checkpoint import CHECKPOINT, WholeCheckpointIO
from embedllm.data.augment import Augmenter, Identity
from embedllm.data.tables import LabelTable, PairTable
from embedllm.datamodule import PairDataModule, PairPools
from embedllm.embedder import Embedder
from embedllm.engine import ContrastiveStep
from embedllm.errors import InputError, PeerLost
from embedllm.memory import fitting_tokens
from embedllm.module import EmbedderModule, NonFiniteError, OptimizerFactory, warmup_schedule
from embedllm.mteb_callback import MTEBCallback, Score
from embedllm.processes import Processes
from embedllm.runs import RunFolder, replace_text
from embedllm.selection import Selection, Weights
from embedllm.start_line import start_line
from embedllm.tracking import Tracker

log = logging.getLogger(__name__)

CPU_MICRO_BATCH_TOKENS = 768
GPU_MICRO_BATCH_TOKENS = 16_384
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of the ``trainer`` group that the training itself needs."""

    max_steps: int
    batch_size: int
    accumulate: int
    micro_batch_tokens: int | str
    """``auto``, or tokens of one micro-batch."""
    grad_cache: bool
    precision: str
    """``auto`` (bfloat16 autocast where the hardware is fast in it), ``float32`` or ``bfloat16``."""
    warmup: int
    schedule: str
    clip: float | None
    checkpoint_every: int | None
    seed: int
    gradient_checkpointing: bool | None = None
    compile: bool | None = None
    snapshots: list[int] | None = None
    """Steps after which the model is kept."""


def check_plan(plan: TrainingPlan) -> None:
    """Raise an InputError for a setting that the training would refuse."""
    warmup_schedule(plan.schedule, plan.warmup, plan.max_steps)
    if plan.clip is not None and plan.clip <= 0:
        raise InputError(f"trainer.clip: {plan.clip} is not a positive number; null clips nothing")
    if plan.precision not in PRECISIONS:
        raise InputError(f"trainer.precision: {plan.precision!r} is not one of {', '.join(PRECISIONS)}")


def make_pools(table: PairTable, embedder: Embedder, plan: TrainingPlan, augment: Augmenter | None) -> PairPools:
    """Return the batches of the whole run; which texts they hold is decided by the seed alone.

    Raises:
        InputError: the two texts of a pair would have one vector.
    """
    _check_views(table, embedder, augment)
    if plan.accumulate > 1:
        log.info(
            "trainer.accumulate: %d pools make a step, and pairs of two pools do not compete: %d pairs in each loss",
            plan.accumulate,
            plan.batch_size,
        )
    return PairPools(
        table,
        embedder.tokenize,
        batch_size=plan.batch_size,
        accumulate=plan.accumulate,
        augment=augment,
        seed=plan.seed,
        max_steps=plan.max_steps,
    )


def _check_views(table: PairTable, embedder: Embedder, augment: Augmenter | None) -> None:
    """Raise if positives are their anchors and no dropout tells them apart; warn of pools of one class."""
    alike = not isinstance(table, LabelTable) and (augment is None or isinstance(augment, Identity))
    dropout = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in embedder.modules())
    if alike and not dropout and all(pair.anchor == pair.positive for pair in table.pairs):
        raise InputError(
            "data.augment: positives are equal to their anchors, and no dropout tells the two apart; "
            "use another augmenter, or adapter.dropout above 0"
        )
    labels = Counter(pair.label for pair in table.pairs if pair.label is not None)
    share = max(labels.values(), default=0) / len(table.pairs)
    if share > 0.5:
        log.warning("data.label: %.0f %% of the pairs have one label, and are no negatives of each other", 100 * share)


def make_module(
    embedder: Embedder,
    loss: torch.nn.Module,
    optimizer: OptimizerFactory,
    plan: TrainingPlan,
    processes: Processes | None = None,
) -> EmbedderModule:
    """Return the module to fit.

    Args:
        embedder: to train.
        loss: of its vectors.
        optimizer: of its parameters.
        plan: the settings.
        processes: those that share the work; None: this one is alone.
    """
    if plan.gradient_checkpointing:
        embedder.checkpoint_gradients()
    if plan.compile:
        embedder.compile_blocks()
    auto = plan.micro_batch_tokens == "auto"
    step = ContrastiveStep(
        embedder,
        loss,
        micro_batch_tokens=CPU_MICRO_BATCH_TOKENS if auto else int(plan.micro_batch_tokens),
        grad_cache=plan.grad_cache,
        autocast=autocast_dtype(plan.precision, processes),
        processes=processes,
    )
    schedule = warmup_schedule(plan.schedule, plan.warmup, plan.max_steps)
    module = EmbedderModule(step, optimizer, schedule, plan.clip, plan.seed, resumes_cut=auto)
    if auto and embedder.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(embedder.device)
        tokens = fitting_tokens(step, free, GPU_MICRO_BATCH_TOKENS)
        step.micro_batch_tokens = -step.processes.highest(-tokens)  # that of the process with the least
    return module


def autocast_dtype(precision: str, processes: Processes | None = None) -> torch.dtype | None:
    """Return the dtype of autocast; None where the forward pass runs in the dtype of the weights.

    Args:
        precision: ``trainer.precision``; auto is bfloat16 where the machines of all processes train fast in it.
        processes: those that share the work.
    """
    if precision == "auto":
        slow = int(not trains_fast_in_bfloat16())
        return None if (slow if processes is None else processes.highest(slow)) else torch.bfloat16
    wanted = resolve_dtype(precision, "trainer.precision")
    return None if wanted == torch.float32 else wanted


@dataclass(frozen=True)
class Development:
    """How a development set follows the training."""

    score: Score
    every: int
    """Steps."""
    selection: Selection
    select: bool
    """Whether it decides which weights are kept."""
    average: bool
    """Whether the average of the best weights is tried."""


def fit(
    module: EmbedderModule,
    pools: PairPools,
    plan: TrainingPlan,
    run: RunFolder,
    tracker: Tracker,
    dev: Development | None = None,
) -> dict[str, Any]:
    """Train to ``plan.max_steps`` and return what ``result.json`` says of it.

    All processes of the module call it; the first one writes, scores and logs, and all end with the same weights.

    Args:
        module: see :func:`make_module`.
        pools: see :func:`make_pools`.
        plan: the settings.
        run: where the checkpoint of an earlier attempt is, which is continued.
        tracker: gets the metrics of each step.
        dev: scores along the training, and which weights are kept at its end; None: the last.

    Raises:
        Interrupted: after a signal; the checkpoint holds every step made.
        NonFiniteError: if the loss or a gradient is NaN or infinite; its texts are in ``bad_batch.json``.
    """
    processes = module.step.processes
    checkpoint = run.checkpoints / CHECKPOINT
    checkpoints = Checkpoints(run.checkpoints, plan.checkpoint_every, processes)
    callbacks: list[Callback] = [LogMetrics(tracker), ProgressBar()] if processes.first else []
    if plan.snapshots:
        callbacks.append(Snapshots(run, plan.snapshots, processes))  # before a signal may end the training
    callbacks.append(checkpoints)
    if dev is not None:
        scorer = MTEBCallback(dev.score, dev.selection, dev.every, tracker, checkpoints)
        callbacks.append(scorer)
    with _quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if module.embedder.device.type == "cuda" else "cpu",
            devices=1 if module.embedder.device.index is None else [module.embedder.device.index],
            max_steps=plan.max_steps,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            use_distributed_sampler=False,
            callbacks=callbacks,
            plugins=[WholeCheckpointIO(), LightningEnvironment()],  # our processes are none of its business
        )
        resume = str(checkpoint) if checkpoint.exists() else None
        if processes.highest(int(resume is not None)) != int(resume is not None):
            raise InputError(f"runs_dir: not every process can see {str(checkpoint)!r}; use a folder that all share")
        if resume:
            log.info("going on from %s", checkpoint)
        if processes.first:
            log.info("%s", start_line(module, pools[0]))
        processes.copy_from_first(module.trainable().values())
        try:
            trainer.fit(module, datamodule=PairDataModule(pools), ckpt_path=resume, weights_only=True)
        except NonFiniteError as error:
            if not processes.first:
                raise PeerLost(str(error)) from error  # the first process says it too
            path = run.path / "bad_batch.json"
            replace_text(path, json.dumps(error.pairs, indent=1, ensure_ascii=False))
            raise NonFiniteError(f"{error}; the texts of the step are in {path}", error.step, error.pairs) from error
    if dev is None:
        return report(module)
    if module.totals.steps == plan.max_steps:  # resumed at its last step, Lightning calls no callback
        scorer.complete(plan.max_steps, module)
    chosen = processes.by_first(lambda: _select(module, dev))
    processes.copy_from_first(module.trainable().values())
    return {**report(module), "selection": chosen}


def _select(module: EmbedderModule, dev: Development) -> dict[str, Any]:
    """Put the weights that the development tasks like best into the module, and say which they are."""
    curve, best = dev.selection.curve(), dev.selection.best()
    tasks = next(iter(dev.selection.entries.values()))
    documents = {name: entry.get("of") for name, entry in tasks.items()}
    chosen = {"tasks": list(tasks), "of": documents, "curve": curve}
    if not dev.select:
        return {**chosen, "steps": [max(curve)], "score": curve[max(curve)]}
    steps, score = best[:1], curve[best[0]]
    _put(module, dev.selection.weights(best[0]))
    if dev.average and len(best) > 1:
        _put(module, dev.selection.averaged())
        entries = dev.score(module.embedder.eval())
        averaged = sum(entry.get("main_score", -math.inf) for entry in entries.values()) / len(entries)
        if averaged > score:
            steps, score = sorted(best), averaged
        else:
            _put(module, dev.selection.weights(best[0]))
    log.info("weights of step %s, %.2f on the development tasks", " + ".join(map(str, steps)), score)
    if score <= curve.get(0, -math.inf):
        log.warning("no weights of the training are better on the development tasks than none: %.2f before", curve[0])
    return {**chosen, "steps": steps, "score": score}


def _put(module: EmbedderModule, weights: Weights) -> None:
    with torch.no_grad():
        for name, parameter in module.trainable().items():
            parameter.copy_(weights[name])


def truncated_share(embedder: Embedder, table: PairTable, sample: int = 1_000) -> float:
    """Return the share of the texts of a random sample of pairs that are longer than the model reads."""
    pairs = random.Random(0).sample(table.pairs, min(sample, len(table.pairs)))
    texts = [text for pair in pairs for text in {pair.anchor, pair.positive, *pair.negatives}]
    rows = embedder.prompt.tokenizer(texts, return_attention_mask=False, verbose=False).input_ids
    return sum(len(row) > embedder.spec.max_length for row in rows) / len(rows)


def report(module: EmbedderModule) -> dict[str, Any]:
    """Return the ``train`` part of ``result.json``."""
    totals = module.totals
    rate = totals.timed_pairs / totals.timed_seconds if totals.timed_seconds else None
    return {
        **{name: value for name, value in asdict(totals).items() if name in ("steps", "pairs", "tokens", "seconds")},
        "pairs_per_second": rate,
        "precision": str(module.step.autocast or module.step.embedder.backbone.dtype).removeprefix("torch."),
        "padding_efficiency": totals.tokens / totals.padded_tokens if totals.padded_tokens else None,
        "peak_memory_gb": peak_memory_gb(),
        "trainable_parameters": sum(parameter.numel() for parameter in module.trainable().values()),
    }


def peak_memory_gb() -> float:
    """Return the most memory that was in use: of the accelerator, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hush what Lightning says about devices, workers and loggers that we chose on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
