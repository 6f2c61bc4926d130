"""Load an exported folder with sentence-transformers and compare it with the vectors that the model had."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedllm.errors import InputError
from embedllm.export.layout import read_json
from embedllm.export.reference import Reference, Vectors, read_reference
from embedllm.model_source import reason
from embedllm.quiet import quiet_transformers

LOWEST_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "float16": 0.999}
LARGEST_STRETCH = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}
"""How far the length of a vector may be off, relative to it."""


class VerificationError(RuntimeError):
    """What was written is not the model."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    found: str
    """What was found, in words."""

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.name}: {self.found}"


@dataclass(frozen=True)
class VerifyReport:
    """All checks of a folder."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    """What a user of the folder should know."""

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]


def verify(folder: str | Path) -> VerifyReport:
    """Load ``folder`` with ``SentenceTransformer`` on the CPU and compare ids and vectors with those stored in it.

    Raises:
        InputError: ``folder`` is no export of this package.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"DIR: no folder {str(folder)!r}")
    reference = read_reference(folder)
    return VerifyReport(tuple(_checks(folder, reference)), reference.notes)


def compare(name: str, found: Vectors, expected: Vectors, dtype: str) -> Check:
    """Compare two (N, D) arrays, row by row, in direction and length."""
    if found.shape != expected.shape:
        return Check(name, False, f"shape {found.shape}, expected {expected.shape}")
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)  # (N,)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = float(np.min(np.sum(found * expected, axis=1) / (lengths[0] * lengths[1])))
        stretch = float(np.max(np.abs(lengths[0] / lengths[1] - 1)))
    passed = cosine >= LOWEST_COSINE[dtype] and stretch <= LARGEST_STRETCH[dtype]  # NaN fails both
    worst = f"lowest cosine {cosine:.7f}, lengths differ by up to {stretch:.1e}"
    return Check(
        name, passed, f"{worst} ({len(found)} texts; allowed: {LOWEST_COSINE[dtype]}, {LARGEST_STRETCH[dtype]})"
    )


def _checks(folder: Path, reference: Reference) -> Iterator[Check]:
    yield _no_chat_template(folder)
    try:
        model = _load(folder)
    except Exception as error:  # whatever a damaged or foreign folder makes the loader trip over
        yield _broken("load", error)
        return
    yield Check("load", True, " > ".join(type(module).__name__ for module in model))
    yield _attempt("modality", _modality, model)
    yield _attempt("token ids", _same_ids, model, reference)
    for name, size in (("vectors, one batch", len(reference.texts)), ("vectors, one by one", 1)):
        yield _attempt(name, _same_vectors, name, model, reference, size)


def _attempt(name: str, check: Callable[..., Check], *arguments: Any) -> Check:
    try:
        return check(*arguments)
    except Exception as error:  # whatever a model that loads trips over when it is used
        return _broken(name, error)


def _broken(name: str, error: Exception) -> Check:
    return Check(name, False, f"{type(error).__name__}: {reason(error)}")


def _no_chat_template(folder: Path) -> Check:
    """With a chat template in the folder, plain texts might be sent through it."""
    files = [path.name for path in folder.glob("chat_template*")]
    config = folder / "tokenizer_config.json"
    inside = config.is_file() and "chat_template" in read_json(config)
    found = files + ["tokenizer_config.json"] * inside
    return Check("no chat template", not found, ", ".join(found) or "none")


def _load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet_transformers():
            return SentenceTransformer(str(folder), device="cpu")
    finally:
        logger.setLevel(level)


def _modality(model: Any) -> Check:
    found = model[0].preprocess(["x"]).get("modality")
    return Check("modality", found == "text", f"{found!r}")


def _same_ids(model: Any, reference: Reference) -> Check:
    rows = [model[0].preprocess([text])["input_ids"][0].tolist() for text in reference.texts]
    pairs = zip(reference.texts, rows, reference.ids, strict=True)
    wrong = [text for text, found, expected in pairs if found != expected]
    found = f"other ids for {wrong[0][:40]!r}" if wrong else f"equal for {len(rows)} texts"
    return Check("token ids", not wrong, found)


def _same_vectors(name: str, model: Any, reference: Reference, batch_size: int) -> Check:
    vectors = model.encode(reference.texts, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
    return compare(name, vectors.astype(np.float32), reference.vectors, reference.dtype)
