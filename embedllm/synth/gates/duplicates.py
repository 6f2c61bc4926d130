"""The gate on pairs that the file has already, or nearly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm.errors import InputError
from embedllm.synth.draft import Draft
from embedllm.synth.gates.normal import NearTexts, jaccard, packed, shingles, unpacked


@dataclass
class Duplicates:
    """Of pairs that are near each other in both texts, whichever is the anchor, the first stays.

    Args:
        near: Jaccard similarity of character 5-grams from which two texts are near.
    """

    near: float = 0.8
    name = "duplicate"
    whole_file = True

    def __post_init__(self) -> None:
        if not 0 < self.near <= 1:
            raise InputError(f"gates.duplicates.near: {self.near} is not above 0 and at most 1")

    def prepare(self, written: bool) -> None:
        """Nothing is needed."""

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts, all but the first of near ones refused."""
        seen = SeenPairs(self.near)
        return [d if d.reason or seen.add(d.anchor, d.positive) else d.refused(self.name) for d in drafts]


class SeenPairs:
    """Pairs, none of which is near another.

    Args:
        near: Jaccard similarity from which two texts are near.
    """

    def __init__(self, near: float) -> None:
        self._near = near
        self._positives = NearTexts(near)
        self._anchors: list[NDArray[np.uint32]] = []

    def add(self, anchor: str, positive: str) -> bool:
        """Add a pair and return True; False if one near it is there."""
        first, second = shingles(anchor), shingles(positive)
        if self._has(first, second) or self._has(second, first):
            return False
        self._positives.add(second)
        self._anchors.append(packed(first))
        return True

    def _has(self, anchor: frozenset[int], positive: frozenset[int]) -> bool:
        return any(jaccard(anchor, unpacked(self._anchors[i])) >= self._near for i in self._positives.near(positive))
