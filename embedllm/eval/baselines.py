"""Opens what can be scored by its name: a model of ours, or a baseline to compare it with through the same door.

``tfidf`` counts words, ``st:NAME`` is a model of sentence-transformers; anything else is a run, a saved model or a
decoder. A folder that happens to be called ``tfidf`` is written ``./tfidf``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from embedllm.eval.encoder import ProgressEncoder, Watched
from embedllm.eval.rng import isolated_rng
from embedllm.eval.score import TaskScore, score_tasks
from embedllm.eval.specs import TaskSpec
from embedllm.eval.st_encoder import ST_PREFIX, SentenceTransformersEncoder, find_sentence_transformer
from embedllm.eval.task_texts import task_texts
from embedllm.eval.tasks import prepare_tasks
from embedllm.eval.tfidf import TFIDF, TfidfEncoder

Vectors = npt.NDArray[np.float32]


class NamedEncoder(ProgressEncoder, Protocol):
    """What :func:`open_encoder` returns."""

    @property
    def name(self) -> str:
        """As typed."""
        ...


@runtime_checkable
class Transductive(Protocol):
    """An encoder that is made for the texts of one task: told of them all before the first is encoded."""

    def fit(self, texts: Sequence[str]) -> None:
        """Forget the texts of other tasks, and learn from these (without their labels)."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one vector a text, (N, D) float32."""
        ...


class OurEncoder:
    """A run, a saved model or a bare decoder, on the accelerator if there is one."""

    def __init__(self, name: str) -> None:
        from embedllm.embedder import Embedder

        self.name = name
        self.embedder = Embedder.load(name).to_accelerator()

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Return the embedder's vectors, (N, D) float32."""
        return self.embedder.encode(texts, progress=progress)


def is_baseline(name: str) -> bool:
    """Return whether ``name`` is no model of ours."""
    return name == TFIDF or name.startswith(ST_PREFIX)


def open_encoder(name: str) -> NamedEncoder:
    """Return the encoder that ``name`` stands for: a baseline, a run, a saved model or a bare decoder.

    Raises:
        InputError: there is no such model, or it cannot be loaded.
    """
    if name == TFIDF:
        return TfidfEncoder()
    if name.startswith(ST_PREFIX):
        return SentenceTransformersEncoder(name.removeprefix(ST_PREFIX))
    return OurEncoder(name)


def check_encoder(name: str) -> None:
    """Look for the model that ``name`` stands for, without importing mteb or loading its weights.

    Raises:
        InputError: there is none, or the decoder that it is saved by reference to is not there.
    """
    if name.startswith(ST_PREFIX):
        find_sentence_transformer(name.removeprefix(ST_PREFIX))
    elif name != TFIDF:
        from embedllm.backbone import load_config
        from embedllm.storage import find_saved, load_outline

        folder = find_saved(name)
        if folder is None:
            load_config(name)
        else:
            load_outline(folder)


def display_name(name: str) -> str:
    """Return what a table calls a model: of a folder the last two parts of its path (``study/run``)."""
    prefix = ST_PREFIX if name.startswith(ST_PREFIX) else ""
    path = Path(name.removeprefix(prefix)).expanduser()
    return prefix + "/".join(path.resolve().parts[-2:]) if path.is_dir() and name != TFIDF else name


def score_encoder(encoder: NamedEncoder, specs: Sequence[TaskSpec], max_documents: int | None) -> dict[str, TaskScore]:
    """Return the score of each task by name; a transductive encoder is fitted anew to all texts of each.

    Raises:
        InputError: see :func:`embedllm.eval.score.score_tasks`; raised before anything is embedded.
    """
    if not isinstance(encoder, Transductive):
        return score_tasks(Watched(encoder), specs, max_documents=max_documents)
    prepare_tasks(specs, max_documents)
    scores: dict[str, TaskScore] = {}
    for spec in specs:
        scores |= score_tasks(_Fitted(encoder, spec, max_documents), [spec], max_documents=max_documents)
    return scores


class _Fitted:
    """A transductive encoder that is fitted when the first text of its task comes: what fails then is the task's."""

    def __init__(self, encoder: Transductive, spec: TaskSpec, max_documents: int | None) -> None:
        self.encoder, self.spec, self.max_documents = encoder, spec, max_documents
        self.fitted = False

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not self.fitted:
            with isolated_rng():
                task = prepare_tasks([self.spec], self.max_documents)[0].load()
            self.encoder.fit(task_texts(task))
            self.fitted = True
        return self.encoder.encode(texts)
