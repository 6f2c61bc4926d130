"""What goes in and out of a generator, and the contracts of generators and gates."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from embedllm.data.augment import keyed_rng
from embedllm.errors import InputError


@dataclass(frozen=True)
class Item:
    """One draft to be made: a row of the source, and which of its copies.

    Attributes:
        row: row of the source, from 0.
        text: its text, without white space around it.
        seed: of the run.
        copy: number of the draft among those of its row, from 0.
        fields: values of the other columns that the generator asked for.
    """

    row: int
    text: str
    seed: int = 0
    copy: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)

    def rng(self, salt: str = "") -> random.Random:
        """Return the generator of the draft's draws for one purpose; nothing but seed, row and copy decides it."""
        return keyed_rng(self.seed, self.copy, self.row, salt)


@dataclass(frozen=True)
class Draft:
    """A pair that was made of an :class:`Item`, or the reason why there is none.

    Attributes:
        row: as in its item.
        copy: as in its item.
        anchor: text of the source.
        positive: the text that was made.
        negatives: hard negatives of the anchor.
        generator: name of what made it.
        style: what kind of text was asked for.
        written: whether a language model wrote the positive, so that the gates must look for its slips.
        truncated: whether the model was stopped before it had finished.
        reason: why the pair is not kept; empty while it is.
        mended: whether a gate changed the positive.
        scores: numbers about the pair, rounded to four decimals.
    """

    row: int
    copy: int
    anchor: str
    positive: str = ""
    negatives: tuple[str, ...] = ()
    generator: str = ""
    style: str = ""
    written: bool = False
    truncated: bool = False
    reason: str = ""
    mended: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)

    def refused(self, reason: str) -> "Draft":
        """Return the draft with the reason why it is not kept."""
        return replace(self, reason=reason)

    def scored(self, **scores: float) -> "Draft":
        """Return the draft with more scores, which are rounded so that files stay comparable."""
        return replace(self, scores={**self.scores, **{name: round(float(x), 4) for name, x in scores.items()}})


class Rows(Protocol):
    """The rows of a source, in order; they may be read again and again."""

    def __iter__(self) -> Iterator[Item]: ...

    def __len__(self) -> int: ...


class Generator(ABC):
    """Makes drafts. A generator draws from ``Item.rng`` only, so an item's draft does not depend on its neighbours."""

    name: str
    """What the pair file calls it."""
    ASIDE: ClassVar[frozenset[str]] = frozenset()
    """Settings that decide no draft, so that a run that was stopped may go on with other values of them."""

    @property
    def writes(self) -> bool:
        """Whether a language model writes some of the positives."""
        return False

    @property
    def columns(self) -> Sequence[str]:
        """Columns that it needs besides the text."""
        return ()

    def prepare(self, rows: Rows) -> None:  # noqa: B027 - most need nothing
        """Check and load what is needed, once, before the first block.

        Raises:
            InputError: something that it needs is not there.
        """

    @abstractmethod
    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return one draft for each item, in order."""

    def check_counts(self, *settings: str) -> None:
        """Raise an InputError for a setting below 1; None is none."""
        for setting in settings:
            value = getattr(self, setting)
            if value is not None and value < 1:
                raise InputError(f"generator.{setting}: {value} is not allowed; the lowest value is 1")


class Gate(Protocol):
    """Looks at drafts, and refuses or mends some.

    A gate leaves drafts that have a reason as they are, and the order too. Row gates run in each block; a gate with
    ``whole_file`` sees all drafts at once, at the end.
    """

    name: str
    """The reason that it gives."""
    whole_file: bool

    def prepare(self, written: bool) -> None:
        """Load what is needed, once.

        Args:
            written: whether a language model writes some of the positives.

        Raises:
            InputError: something that it needs is not there.
        """
        ...

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts, some with this gate's reason."""
        ...
