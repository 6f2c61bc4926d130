"""The scores of a run before and after its training, kept task by task: an interrupt loses none that was made."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from embedllm.eval.specs import TaskSpec
from embedllm.runs import RunFolder, replace_text
from embedllm.scoring import Entry, gain, missing_tasks, score

if TYPE_CHECKING:
    from embedllm.eval.encoder import ProgressEncoder
    from embedllm.eval.paired import AnyEvidence


class ScoreBook:
    """The scores of one stage of a run.

    Args:
        folder: of the run.
        stage: ``before`` or ``after`` the training.
    """

    def __init__(self, folder: RunFolder, stage: str) -> None:
        self.folder, self.stage = folder, stage
        self.path = folder.scores(stage)
        self.entries: dict[str, Entry] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def missing(self, specs: Sequence[TaskSpec], max_documents: int | None) -> list[TaskSpec]:
        """Return the tasks that are not scored yet."""
        return missing_tasks(specs, max_documents, self.entries)

    def complete(
        self,
        encoder: "ProgressEncoder",
        specs: Sequence[TaskSpec],
        max_documents: int | None,
        on_score: Callable[[str, float], Any],
    ) -> None:
        """Score the tasks that are missing; ``on_score`` gets name and score of each."""

        def keep(name: str, entry: Entry, evidence: "AnyEvidence | None") -> None:
            if evidence is not None:
                evidence.save(self.folder.evidence(self.stage, name))
            self.entries[name] = entry
            replace_text(self.path, json.dumps(self.entries))
            if "main_score" in entry:
                on_score(name, entry["main_score"])

        score(encoder, self.missing(specs, max_documents), max_documents, keep)


def compared(before: ScoreBook | None, after: ScoreBook, specs: Sequence[TaskSpec]) -> dict[str, Entry]:
    """Return the entries of ``result.json``: the scores after the training, those before, and the intervals."""
    from embedllm.eval.paired import load_evidence

    entries: dict[str, Entry] = {}
    for spec in specs:
        earlier = before.entries[spec.name] if before else {}
        interval = None
        if before:
            interval = gain(*(load_evidence(book.folder.evidence(book.stage, spec.name)) for book in (before, after)))
        entries[spec.name] = {**after.entries[spec.name], "before": earlier.get("main_score"), "gain": interval}
    return entries
