"""Gates on the form of a text: empty, cut, of another script, much too long or short."""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from embedllm.errors import InputError
from embedllm.synth.draft import Draft
from embedllm.synth.gates.base import PairGate, WrittenGate
from embedllm.synth.styles import STYLES


class Empty(PairGate):
    """A text without a letter or digit."""

    name = "empty"

    def refuses(self, draft: Draft) -> bool:
        """Return whether one of the texts is empty."""
        return not all(any(map(str.isalnum, text)) for text in (draft.anchor, draft.positive, *draft.negatives))


class Truncated(WrittenGate):
    """A positive whose model was stopped at the most tokens."""

    name = "truncated"

    def refuses(self, draft: Draft) -> bool:
        """Return whether the positive was cut."""
        return draft.truncated


@dataclass
class Script(WrittenGate):
    """A positive with letters of a script that the anchor does not have: an answer in another language.

    Args:
        share: of the positive's letters that may be of other scripts.
    """

    share: float = 0.05
    name = "script"

    def refuses(self, draft: Draft) -> bool:
        """Return whether too many letters are of other scripts."""
        found = scripts(draft.positive)
        foreign = sum(count for script, count in found.items() if script not in scripts(draft.anchor))
        return foreign > self.share * found.total()


@dataclass
class LengthRatio(WrittenGate):
    """A positive that is too long or too short for what was asked.

    Args:
        low: least characters of the positive for one of the anchor, for styles that have no bounds of their own.
        high: most, likewise.
    """

    low: float = 0.4
    high: float = 2.5
    name = "length_ratio"

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise InputError(f"gates.length_ratio: low={self.low} and high={self.high} leave nothing between them")

    def refuses(self, draft: Draft) -> bool:
        """Return whether the ratio of lengths is out of bounds."""
        style = STYLES.get(draft.style)
        low, high = style.length if style is not None and style.length else (self.low, self.high)
        return not low <= len(draft.positive) / len(draft.anchor) <= high


def scripts(text: str) -> Counter[str]:
    """Return the letters of a text, counted by script (``LATIN``, ``CYRILLIC``, ``CJK``)."""
    return Counter(_script(char) for char in text if char.isalpha())


@lru_cache(maxsize=1 << 16)
def _script(char: str) -> str:
    """Return the first word of the character's name in Unicode, which is that of its script; both kana are one."""
    script = unicodedata.name(char, "UNKNOWN").split()[0].split("-")[0]
    return "KANA" if script in ("HIRAGANA", "KATAKANA") else script
