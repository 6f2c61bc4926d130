"""Several generators on one source: which one makes the pair of a row is drawn by weight."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedllm.errors import InputError, unknown
from embedllm.synth.draft import Draft, Generator, Item, Rows


@dataclass(frozen=True)
class Mixture(Generator):
    """Generators by weight; the draw is keyed by the row, so that a row's generator never depends on other rows.

    Args:
        parts: generators by name; those of weight 0 need nothing to be there.
        weights: how often each is drawn, in proportion; those not named have weight 0.
    """

    parts: Mapping[str, Generator]
    weights: Mapping[str, float]
    name: str = "mixture"

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if name not in self.parts:
                raise InputError(unknown(f"generator.weights.{name}", [f"generator.weights.{n}" for n in self.parts]))
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise InputError(f"generator.weights.{name}: {weight!r} is not a number of at least 0")
        if not self._used:
            raise InputError("generator.weights: all are 0; give at least one generator a weight")

    @property
    def _used(self) -> dict[str, float]:
        return {name: weight for name, weight in self.weights.items() if weight > 0}

    @property
    def writes(self) -> bool:
        """Whether any of the generators does."""
        return any(self.parts[name].writes for name in self._used)

    @property
    def columns(self) -> Sequence[str]:
        """What any of the generators needs."""
        return tuple(dict.fromkeys(column for name in self._used for column in self.parts[name].columns))

    def prepare(self, rows: Rows) -> None:
        """Prepare those that can be drawn."""
        for name in self._used:
            self.parts[name].prepare(rows)

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the drafts of the generators drawn; each is handed all of its items at once."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            groups[self._drawn(item)].append(index)
        made: dict[int, Draft] = {}
        for name, indices in groups.items():
            made |= dict(zip(indices, self.parts[name].generate([items[i] for i in indices]), strict=True))
        return [made[index] for index in range(len(items))]

    def _drawn(self, item: Item) -> str:
        left = item.rng(self.name).random() * sum(self._used.values())
        for name, weight in self._used.items():
            left -= weight
            if left < 0:
                return name
        return next(reversed(self._used))  # rounding left nothing
