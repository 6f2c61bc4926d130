"""What the evidence of two models on one task says about the difference of their scores."""

import zlib
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from embedllm.eval.bootstrap import Floats, draws
from embedllm.eval.classification_evidence import ClassificationEvidence
from embedllm.eval.evidence import Evidence
from embedllm.eval.halves import likely_differences
from embedllm.eval.pair_evidence import PairClassificationEvidence, SimilarityEvidence

AnyEvidence = Evidence | SimilarityEvidence | PairClassificationEvidence | ClassificationEvidence

KINDS: tuple[type[AnyEvidence], ...] = (
    Evidence,
    SimilarityEvidence,
    PairClassificationEvidence,
    ClassificationEvidence,
)
"""No two have the same fields, so a file says itself what it is."""


def load_evidence(path: Path) -> AnyEvidence | None:
    """Return what is kept of a task; None if nothing is, or if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = set(arrays.files)
        kind = next((kind for kind in KINDS if set(kind.__dataclass_fields__) == names), None)
        return None if kind is None else kind.load(path)
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, BadZipFile, TokenError, zlib.error):
        return None


def comparable(before: AnyEvidence, after: AnyEvidence) -> bool:
    """Return whether both are of the same documents, in the same order."""
    return type(before) is type(after) and np.array_equal(before.documents, after.documents)


def differences(before: AnyEvidence, after: AnyEvidence) -> Floats:
    """Return what the score after minus before, in points of 100, may be with other documents, (RESAMPLES,).

    :func:`embedllm.eval.bootstrap.interval` makes an interval of it.

    Raises:
        ValueError: they are not :func:`comparable`.
    """
    if comparable(before, after):
        if isinstance(before, Evidence) and isinstance(after, Evidence):
            found = float(after.score - before.score)
            return likely_differences(found, after.halves - before.halves, len(before.documents))
        if not isinstance(before, Evidence) and not isinstance(after, Evidence):
            blocks = draws(len(before.documents), before.runs)
            return np.concatenate([after.scores(block) - before.scores(block) for block in blocks])
    raise ValueError("the evidence is not of the same documents")
