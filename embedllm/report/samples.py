"""How a score varies with the documents, as far as what a run keeps of a task can say."""

from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from embedllm.eval.bootstrap import Floats, draws
from embedllm.eval.evidence import Evidence
from embedllm.eval.halves import spread
from embedllm.eval.paired import load_evidence

BLOCKS = 2
"""Blocks of 100 resamples: a standard deviation needs fewer than the bounds of an interval do."""


@dataclass(frozen=True)
class Sampled:
    """The score of a task on parts of its documents, or on documents drawn again: mean over the runs of a group."""

    key: tuple[str, str]
    """Equal for scores of the same documents and kind."""
    documents: int
    scores: Floats
    """(H, S) as of :func:`embedllm.eval.halves.half_scores`, or (B,) resamples."""


def sample(path: Path) -> Sampled | None:
    """Return what the evidence in a file says of its score; None if there is none."""
    evidence = load_evidence(path)
    if evidence is None:
        return None
    count = len(evidence.documents)
    key = (type(evidence).__name__, sha256(np.ascontiguousarray(evidence.documents).tobytes()).hexdigest())
    if isinstance(evidence, Evidence):
        return Sampled(key, count, evidence.halves)
    blocks = islice(draws(count, evidence.runs), BLOCKS)
    return Sampled(key, count, np.concatenate([evidence.scores(block) for block in blocks]))


def variance_of(differences: Floats, documents: int) -> tuple[float, float]:
    """Return how the difference of two scores varies with the documents, and the degrees of freedom."""
    clustered = differences.ndim == 2
    variance = spread(differences, documents) ** 2 if clustered else float(differences.var(ddof=1))
    return variance, len(differences) - 1
