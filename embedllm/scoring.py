"""Scores of runs: which a result holds already, how the others are made, and how sure a difference is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedllm.data.digest import file_digest
from embedllm.eval.specs import TaskSpec
from embedllm.runs import RunFolder

if TYPE_CHECKING:  # a finished run is recognised without torch
    import numpy as np
    import numpy.typing as npt

    from embedllm.embedder import Embedder
    from embedllm.eval.evidence import Evidence

Entry = dict[str, Any]
OnResult = Callable[[str, Entry, "Evidence | None"], None]


def missing_tasks(specs: Sequence[TaskSpec], max_documents: int | None, scores: Mapping[str, Any]) -> list[TaskSpec]:
    """Return those of ``specs`` that ``scores`` does not hold on the same documents."""
    return [spec for spec in specs if not _scored(spec, max_documents, scores)]


def _scored(spec: TaskSpec, max_documents: int | None, scores: Mapping[str, Any]) -> bool:
    score = scores.get(spec.name)
    return score is not None and "error" not in score and score.get("of") == documents_of(spec, max_documents)


def documents_of(spec: TaskSpec, max_documents: int | None) -> dict[str, Any]:
    """Return what identifies the documents that a task is scored on: the contents of its file and the sample size."""
    digest = file_digest(spec.path)[:16] if spec.path else None
    return {"sha256": digest, "kind": spec.kind, "max_documents": max_documents}


def score_run(model: str, specs: Sequence[TaskSpec], max_documents: int | None) -> dict[str, Entry]:
    """Return the scores of a run, a saved model or a bare decoder; those of a run are added to its result.

    What a run holds already, of the same documents, is not scored again.
    """
    from embedllm.embedder import Embedder
    from embedllm.eval.tasks import prepare_tasks

    folder = RunFolder(Path(model).expanduser())
    result = folder.read_result()
    known = result["tasks"] if result else {}
    missing = missing_tasks(specs, max_documents, known)
    prepare_tasks(missing, max_documents)
    scores = dict(known)

    def keep(name: str, entry: Entry, evidence: "Evidence | None") -> None:
        scores[name] = {**entry, "before": None, "gain": None}
        if result and evidence is not None:
            evidence.save(folder.evidence("after", name))

    if missing:
        score(Embedder.load(model).to_accelerator(), missing, max_documents, keep)
    if result and missing:
        folder.write_result({**result, "tasks": scores})  # the mean stays that of the run's own tasks
    return {spec.name: scores[spec.name] for spec in specs}


def score(
    embedder: "Embedder", specs: Sequence[TaskSpec], max_documents: int | None, on_result: OnResult
) -> dict[str, Entry]:
    """Return the entries of ``result.json`` for ``specs``.

    Args:
        embedder: what is scored.
        specs: the tasks.
        max_documents: see :func:`embedllm.eval.tasks.prepare_tasks`.
        on_result: gets name, entry and evidence of each task as soon as it is known; there is evidence of the
            clusterings of local files.
    """
    from embedllm.eval.score import score_tasks

    by_name = {spec.name: spec for spec in specs}
    encoder = _Encoder(embedder)
    entries: dict[str, Entry] = {}

    def record(name: str, task: Mapping[str, Any]) -> None:
        spec = by_name[name]
        entries[name] = {**task, "of": documents_of(spec, max_documents)}
        clustered = spec.path is not None and task.get("metric") == "v_measure"
        on_result(name, entries[name], _evidence(spec, encoder) if clustered else None)

    score_tasks(encoder, specs, max_documents=max_documents, on_result=record)
    return entries


def gain(before: "Evidence | None", after: "Evidence | None") -> dict[str, float] | None:
    """Return the interval of the difference between two scores of a task; None where it is not known."""
    if before is None or after is None or before.documents.tolist() != after.documents.tolist():
        return None
    from embedllm.eval.bootstrap import difference_interval

    low, high = difference_interval(before.labels.tolist(), before.clusters, after.clusters)
    return {"low": low, "high": high}


def read_evidence(path: Path) -> "Evidence | None":
    """Return what is kept of a task; None if nothing is, or if it is damaged."""
    from zipfile import BadZipFile

    from embedllm.eval.evidence import Evidence

    try:
        return Evidence.load(path)
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def status(tasks: Mapping[str, Any]) -> str:
    """Return ``done``, or ``incomplete`` if a task has no score."""
    return "incomplete" if any("error" in task for task in tasks.values()) else "done"


def _evidence(spec: TaskSpec, encoder: "_Encoder") -> "Evidence":
    """Return what is kept of a clustering of a local file."""
    from embedllm.eval.evidence import gather
    from embedllm.eval.local_files import read_local
    from embedllm.eval.threads import one_thread

    if spec.path is None:
        raise ValueError(f"{spec.name} is not a local file")
    columns = read_local(spec, spec.path)[1].columns
    labels = dict(zip(columns["text"], columns["label"], strict=True))
    with one_thread():
        return gather(encoder.texts, [labels[text] for text in encoder.texts], encoder.vectors)


class _Encoder:
    """An embedder that shows a bar while it encodes, and keeps what it encoded last."""

    def __init__(self, embedder: "Embedder") -> None:
        self.embedder = embedder

    def encode(self, texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        self.texts = list(texts)
        self.vectors = self.embedder.encode(texts, progress=True)
        return self.vectors
