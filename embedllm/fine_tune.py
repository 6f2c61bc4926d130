"""The training of a run, as its first process makes it and as the others follow."""

import logging
from typing import TYPE_CHECKING, Any

from embedllm.config import Config
from embedllm.development import build_development
from embedllm.launch import place
from embedllm.recipe import (
    build_augment,
    build_embedder,
    build_module,
    build_plan,
    build_table,
    check_training,
    plan_embedder,
)
from embedllm.runs import RunFolder
from embedllm.targets import check_targets

if TYPE_CHECKING:
    from embedllm.data.tables import PairTable
    from embedllm.embedder import Embedder
    from embedllm.processes import Processes
    from embedllm.tracking import Tracker

log = logging.getLogger(__name__)


def fine_tune(
    config: Config, embedder: "Embedder", table: "PairTable", folder: RunFolder, tracker: "Tracker"
) -> dict[str, Any]:
    """Train, with the other processes if there are any, and make sure that it changed the vectors.

    Returns:
        The ``train`` part of ``result.json``.
    """
    import numpy as np

    from embedllm.processes import joined
    from embedllm.report.curves import draw_curve
    from embedllm.training import truncated_share

    embedder.centring = None
    truncated = truncated_share(embedder, table)
    log.info("%.1f %% of the texts are longer than model.max_length=%d", 100 * truncated, config.model.max_length)
    probe = [pair.anchor for pair in table.pairs[:4]]
    start = embedder.encode(probe)
    with joined(config.trainer.devices) as processes:
        report = _fit(config, embedder, table, folder, tracker, processes)
    if "selection" in report:
        draw_curve(report["selection"], folder.dev_curve)
    embedder.eval()
    end = embedder.encode(probe)
    if not np.isfinite(end).all():
        raise RuntimeError("after the training vectors hold NaN or infinity; nothing is saved")
    if np.array_equal(start, end):
        raise RuntimeError("the training left every vector as it was; nothing is saved")
    if config.centring:
        embedder.centre()
    return {**report, "truncated_share": truncated, "positives": _positives(table)}


def follow(config: Config, plain: dict[str, Any], folder: RunFolder) -> None:
    """Take part in the training of a run whose folder and scores are the business of the first process."""
    if config.trainer.max_steps == 0 or folder.read_result() is not None:
        return
    check_targets(plain)
    parts = plan_embedder(config)
    check_training(config, parts)
    table = build_table(config)

    import torch

    from embedllm.processes import joined
    from embedllm.tracking import NoTracker

    if torch.cuda.is_available():
        torch.cuda.set_device(place().local_rank)
    embedder = build_embedder(parts, config)
    with joined(config.trainer.devices) as processes:
        _fit(config, embedder, table, folder, NoTracker(), processes)


def _fit(
    config: Config,
    embedder: "Embedder",
    table: "PairTable",
    folder: RunFolder,
    tracker: "Tracker",
    processes: "Processes",
) -> dict[str, Any]:
    """Train as one of ``processes``."""
    from embedllm.training import fit, make_pools

    plan = build_plan(config)
    pools = make_pools(table, embedder, plan, build_augment(config))
    module = build_module(config, embedder, processes)
    return fit(module, pools, plan, folder, tracker, build_development(config, folder))


def _positives(table: "PairTable") -> str:
    """Return where positives come from: ``label``, ``column``, ``augment``, or the last two mixed."""
    from embedllm.data.tables import LabelTable

    if isinstance(table, LabelTable):
        return "label"
    made = table.summary.identical
    return "column" if not made else "augment" if made == table.summary.pairs else "column or augment"
