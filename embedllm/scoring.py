"""Scores of runs: which a result holds already, how the others are made, and how sure a difference is."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedllm.data.digest import file_digest
from embedllm.data.embedded_files import EMBEDDED_DATA, EMBEDDED_PREFIX, resolve_data_path
from embedllm.eval.mirror_files import mirror_digest
from embedllm.eval.specs import TaskSpec
from embedllm.runs import RunFolder

if TYPE_CHECKING:  # a finished run is recognised without torch
    from embedllm.eval.encoder import ProgressEncoder
    from embedllm.eval.paired import AnyEvidence

log = logging.getLogger(__name__)

Entry = dict[str, Any]
OnResult = Callable[[str, Entry, "AnyEvidence | None"], None]


def missing_tasks(specs: Sequence[TaskSpec], max_documents: int | None, scores: Mapping[str, Any]) -> list[TaskSpec]:
    """Return those of ``specs`` that ``scores`` does not hold on the same documents."""
    return [spec for spec in specs if not _scored(spec, max_documents, scores)]


def _scored(spec: TaskSpec, max_documents: int | None, scores: Mapping[str, Any]) -> bool:
    score = scores.get(spec.name)
    return score is not None and "error" not in score and score.get("of") == documents_of(spec, max_documents)


def documents_of(spec: TaskSpec, max_documents: int | None) -> dict[str, Any]:
    """Return what identifies the documents that a task is scored on: contents of its files and sample size."""
    digest = file_digest(spec.path)[:16] if spec.path else None
    mirror = {} if spec.mirror is None else {"mirror": mirror_digest(spec.name, spec.mirror)}
    return {"sha256": digest, "kind": spec.kind, "max_documents": max_documents, **mirror}


def lacking(model: str, specs: Sequence[TaskSpec], max_documents: int | None) -> list[TaskSpec]:
    """Return those of ``specs`` that ``model`` must be loaded for: a finished run may hold scores."""
    result = RunFolder(Path(model).expanduser()).read_result()
    return missing_tasks(specs, max_documents, result["tasks"] if result else {})


def typed(name: str, documents: Mapping[str, Any]) -> str:
    """Return the entry of ``eval.tasks`` that a score is of; a local file's is taken for its name.

    Args:
        name: of the task.
        documents: as of :func:`documents_of`.
    """
    embedded = EMBEDDED_PREFIX + name
    if name not in EMBEDDED_DATA or documents.get("sha256") != file_digest(resolve_data_path(embedded))[:16]:
        return name
    return embedded


def score_run(model: str, specs: Sequence[TaskSpec], max_documents: int | None) -> dict[str, Entry]:
    """Return the scores of a run, a saved model or a bare decoder; those of a run are added to its result.

    Each is added as soon as it is known; what a run holds already, of the same documents, is not scored again. A score
    that it holds of other documents of the task stays: the new one is returned and not kept.
    """
    from embedllm.embedder import Embedder

    folder = RunFolder(Path(model).expanduser())
    result = folder.read_result()
    known = result["tasks"] if result else {}
    missing = lacking(model, specs, max_documents)
    scores = dict(known)
    lasting = dict(known)

    def keep(name: str, entry: Entry, evidence: "AnyEvidence | None") -> None:
        scores[name] = {**entry, "before": None, "gain": None}
        if result is None or "error" in entry:
            return
        if "main_score" in known.get(name, {}):
            log.warning("%s has a score of its own on other documents of %s, so this one is not kept", model, name)
            return
        if evidence is not None:
            evidence.save(folder.evidence("after", name))
        lasting[name] = scores[name]
        folder.write_result({**result, "tasks": lasting})  # the mean stays that of the run's own tasks

    if missing:
        with folder.locked() if result else nullcontext():
            score(Embedder.load(model).to_accelerator(), missing, max_documents, keep)
    return with_versions({spec.name: scores[spec.name] for spec in specs}, result or {})


def score(
    encoder: "ProgressEncoder", specs: Sequence[TaskSpec], max_documents: int | None, on_result: OnResult
) -> dict[str, Entry]:
    """Return the entries of ``result.json`` for ``specs``.

    Args:
        encoder: what is scored.
        specs: the tasks.
        max_documents: see :func:`embedllm.eval.tasks.prepare_tasks`.
        on_result: gets name, entry and evidence of each task as soon as it is known.
    """
    from embedllm.eval.encoder import Watched
    from embedllm.eval.score import score_tasks

    by_name = {spec.name: spec for spec in specs}
    entries: dict[str, Entry] = {}
    evidence: dict[str, AnyEvidence] = {}

    def record(name: str, task: Mapping[str, Any]) -> None:
        entries[name] = {**task, "of": documents_of(by_name[name], max_documents)}
        on_result(name, entries[name], evidence.pop(name, None))

    score_tasks(
        Watched(encoder), specs, max_documents=max_documents, on_result=record, on_evidence=evidence.__setitem__
    )
    return entries


def with_versions(scores: Mapping[str, Entry], result: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the scores of a result, each with the version of mteb that made it: if it says none, that of the result.

    A task may have been scored long after the others, by another version.
    """
    known = {name: found for name, found in result.get("versions", {}).items() if name == "mteb"}
    return {name: {**known, **entry} for name, entry in scores.items()}


def mteb_versions(entries: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the versions of mteb that made the scores of ``entries``; None if there is no score."""
    found = {entry.get("mteb", "of an unknown version") for entry in entries if "main_score" in entry}
    return " and ".join(sorted(found)) or None


def gain(before: "AnyEvidence | None", after: "AnyEvidence | None") -> dict[str, float] | None:
    """Return the interval of the difference between two scores of a task; None where it is not known."""
    from embedllm.eval.bootstrap import interval
    from embedllm.eval.paired import comparable, differences

    if before is None or after is None or not comparable(before, after):
        return None
    low, high = interval(differences(before, after))
    return {"low": low, "high": high}


def status(tasks: Mapping[str, Any]) -> str:
    """Return ``done``, or ``incomplete`` if a task has no score."""
    return "incomplete" if any("error" in task for task in tasks.values()) else "done"
