"""What gates that look at one pair at a time share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from embedllm.synth.draft import Draft


class PairGate(ABC):
    """Refuses pairs one by one."""

    name = ""
    whole_file = False

    def prepare(self, written: bool) -> None:  # noqa: B027
        """Most gates need nothing."""

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts; those that :meth:`refuses` says so of have the gate's name as their reason."""
        return [d.refused(self.name) if not d.reason and self.refuses(d) else d for d in drafts]

    @abstractmethod
    def refuses(self, draft: Draft) -> bool:
        """Return whether the pair is to go."""


class WrittenGate(PairGate):
    """Looks only at positives that a language model wrote: what others make is as they were asked to make it."""

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts; those written by a model may be refused."""
        return [d.refused(self.name) if d.written and not d.reason and self.refuses(d) else d for d in drafts]
