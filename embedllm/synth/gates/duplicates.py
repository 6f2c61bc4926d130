"""The gate on pairs that the file has already, or nearly."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedllm.errors import InputError
from embedllm.synth.draft import Draft
from embedllm.synth.gates.normal import NearTexts, shingles


@dataclass
class Duplicates:
    """Of pairs that are near each other, anchor and positive taken together, the first stays.

    Args:
        near: Jaccard similarity of character 5-grams from which two pairs are one.
    """

    near: float = 0.8
    name = "duplicate"
    whole_file = True

    def __post_init__(self) -> None:
        if not 0 < self.near <= 1:
            raise InputError(f"gates.duplicates.near: {self.near} is not above 0 and at most 1")

    def prepare(self) -> None:
        """Nothing is needed."""

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts, all but the first of near ones refused."""
        seen = NearTexts(self.near)
        return [draft if draft.reason else self._judged(draft, seen) for draft in drafts]

    def _judged(self, draft: Draft, seen: NearTexts) -> Draft:
        found = shingles(draft.anchor) | shingles(draft.positive)
        if seen.nearest(found) is not None:
            return draft.refused(self.name)
        seen.add(found)
        return draft
