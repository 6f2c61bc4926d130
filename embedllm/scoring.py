"""Scores of runs: which a result holds already, and how the others are made."""

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


def score_run(model: str, specs: Sequence[TaskSpec], max_documents: int | None) -> dict[str, Any]:
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
    if missing:
        new = score(Embedder.load(model).to_accelerator(), missing, max_documents)
        scores |= {name: finished_entry(entry) for name, entry in new.items()}
    if result and missing:
        folder.write_result({**result, "tasks": scores})  # the mean stays that of the run's own tasks
    return {spec.name: scores[spec.name] for spec in specs}


def score(
    embedder: "Embedder",
    specs: Sequence[TaskSpec],
    max_documents: int | None,
    on_result: Callable[[str, dict[str, Any]], None] = lambda name, task: None,
) -> dict[str, dict[str, Any]]:
    """Return the entries of ``result.json`` for ``specs``; ``on_result`` gets each as soon as it is known.

    A clustering of a local file carries ``clusters``, from which :func:`gains` tells how sure a difference is.
    """
    from embedllm.eval.score import score_tasks

    by_name = {spec.name: spec for spec in specs}
    encoder = _Encoder(embedder)
    entries: dict[str, dict[str, Any]] = {}

    def record(name: str, task: Mapping[str, Any]) -> None:
        spec = by_name[name]
        entries[name] = {**task, "of": documents_of(spec, max_documents)}
        if spec.path is not None and task.get("metric") == "v_measure":
            entries[name]["clusters"] = _clusters(spec, encoder)
        on_result(name, entries[name])

    score_tasks(encoder, specs, max_documents=max_documents, on_result=record)
    return entries


def gains(spec: TaskSpec, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the interval of the difference between two scores of a task; None where it is not known."""
    if spec.path is None or "clusters" not in before or "clusters" not in after:
        return None
    import numpy as np

    from embedllm.eval.evidence import difference_interval

    labels = _columns(spec)["label"]
    texts = before["clusters"]["documents"]
    runs = [np.array(entry["clusters"]["runs"], dtype=np.int16) for entry in (before, after)]
    low, high = difference_interval([labels[i] for i in texts], *runs)
    return {"low": low, "high": high}


def _clusters(spec: TaskSpec, encoder: "_Encoder") -> dict[str, Any]:
    """Return the clusters of each document that was encoded, with its row in the file."""
    from embedllm.eval.evidence import cluster
    from embedllm.eval.threads import one_thread

    columns = _columns(spec)
    rows = {text: row for row, text in reversed(list(enumerate(columns["text"])))}
    documents = [rows[text] for text in encoder.texts]
    with one_thread():
        runs = cluster(encoder.vectors, [columns["label"][row] for row in documents])
    return {"documents": documents, "runs": runs.tolist()}


def _columns(spec: TaskSpec) -> dict[str, list[Any]]:
    from embedllm.eval.local_files import read_local

    if spec.path is None:
        raise ValueError(f"{spec.name} is not a local file")
    return read_local(spec, spec.path)[1].columns


class _Encoder:
    """An embedder that shows a bar while it encodes, and keeps what it encoded last."""

    def __init__(self, embedder: "Embedder") -> None:
        self.embedder = embedder

    def encode(self, texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        self.texts = list(texts)
        self.vectors = self.embedder.encode(texts, progress=True)
        return self.vectors


def finished_entry(
    entry: Mapping[str, Any], before: Mapping[str, Any] | None = None, gain: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return an entry as it stands in ``result.json``: with the score before the training, without the clusters."""
    kept = {name: value for name, value in entry.items() if name != "clusters"}
    return {**kept, "before": None if before is None else before.get("main_score"), "gain": gain}


def status(tasks: Mapping[str, Any]) -> str:
    """Return ``done``, or ``incomplete`` if a task has no score."""
    return "incomplete" if any("error" in task for task in tasks.values()) else "done"
