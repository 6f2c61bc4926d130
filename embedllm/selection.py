"""Which weights of a training are kept: those that a development set likes best, or the average of the best few.

The scores of each evaluation (``dev.json``) and the weights of the best ones lie beside the checkpoint until the
training is over. Both are whole at any moment, so a resumed run selects what an uninterrupted one does.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedllm.runs import RunFolder, replace_text

Weights = dict[str, Tensor]
Entries = dict[str, dict[str, Any]]


class Selection:
    """The evaluations of a training so far.

    Args:
        run: whose ``checkpoints/`` are used.
        keep: how many of the best weights are kept.
        patience: evaluations without a new best after which the training stops; None: it goes on to its end.
    """

    def __init__(self, run: RunFolder, keep: int = 1, patience: int | None = None) -> None:
        self.path, self.folder, self.keep, self.patience = run.dev, run.checkpoints, keep, patience
        stored = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.entries: dict[int, Entries] = {int(step): entries for step, entries in stored.items()}

    def curve(self) -> dict[int, float]:
        """Return the mean score of each evaluation by its step; step 0 is the untrained model."""
        return {step: _mean(entries) for step, entries in sorted(self.entries.items())}

    def best(self) -> list[int]:
        """Return the steps of the best evaluations after the start, best first; of equal ones the earlier."""
        ranked = sorted((-score, step) for step, score in self.curve().items() if step > 0)
        return [step for _, step in ranked[: self.keep]]

    def exhausted(self) -> bool:
        """Return whether the training has gone on for ``patience`` evaluations without a new best."""
        steps = [step for step in self.curve() if step > 0]
        if self.patience is None or not steps:
            return False
        return len(steps) - 1 - steps.index(self.best()[0]) >= self.patience

    def record(self, step: int, entries: Entries, weights: Mapping[str, Tensor]) -> None:
        """Take in an evaluation; ``weights`` are kept if it is among the best."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.entries[step] = entries
        if step in self.best():
            _save(weights, self._file(step))
        replace_text(self.path, json.dumps(self.entries))
        for path in self.folder.glob("step-*.safetensors"):
            if path not in [self._file(kept) for kept in self.best()]:
                path.unlink()

    def weights(self, step: int) -> Weights:
        """Return the weights of one of the best evaluations."""
        return load_file(self._file(step))

    def averaged(self) -> Weights:
        """Return the mean of the weights of the best evaluations, taken in float64."""
        return average([self.weights(step) for step in self.best()])

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"


def average(weights: Sequence[Weights]) -> Weights:
    """Return the mean of several sets of weights, name by name.

    For LoRA its two factors are averaged one by one, as checkpoints of one training are close to each other (stochastic
    weight averaging: Izmailov et al., 2018); the mean of their products would need a higher rank.
    """
    first = weights[0]
    return {
        name: torch.stack([other[name].double() for other in weights]).mean(dim=0).to(first[name].dtype)
        for name in first
    }


def _mean(entries: Entries) -> float:
    return float(sum(entry["main_score"] for entry in entries.values()) / len(entries))


def _save(weights: Mapping[str, Tensor], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
