"""The gate on answers that repeat what the model was told instead of the text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from embedllm.errors import InputError
from embedllm.synth.chat import ANSWERS, EXAMPLE
from embedllm.synth.draft import Draft
from embedllm.synth.gates.base import WrittenGate
from embedllm.synth.gates.normal import normalised
from embedllm.synth.styles import STYLES


@dataclass
class Echo(WrittenGate):
    """A positive with a run of words out of the instruction or the example that the anchor does not have.

    Args:
        run: words in a row that are too many.
    """

    run: int = 5
    name = "echo"

    def __post_init__(self) -> None:
        if self.run < 1:
            raise InputError(f"gates.echo.run: {self.run} is not allowed; the lowest value is 1")

    def refuses(self, draft: Draft) -> bool:
        """Return whether the positive echoes the prompt."""
        shared = _told(self.run).intersection(_runs(draft.positive, self.run))
        return bool(shared.difference(_runs(draft.anchor, self.run)))


@cache
def _told(run: int) -> frozenset[str]:
    told = [EXAMPLE, *ANSWERS.values(), *(style.instruction for style in STYLES.values())]
    return frozenset(words for text in told for words in _runs(text, run))


def _runs(text: str, run: int) -> Iterator[str]:
    words = normalised(text).split()
    for start in range(len(words) - run + 1):
        yield " ".join(words[start : start + run])
