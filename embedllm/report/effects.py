"""What each factor of a study does: the mean score of each of its values, over the same settings of all the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from embedllm.report.groups import Group, Table


@dataclass(frozen=True)
class Effect:
    """A factor and the means of its values."""

    name: str
    means: dict[str, float]
    """By value, in the order of the column."""
    scores: dict[str, tuple[float, ...]]
    """The runs behind each mean, seeds one by one."""
    blocks: int
    """Combinations of the other columns that every value shown has."""
    left_out: int
    """Groups that have no partner at every value, and do not count."""

    @property
    def range(self) -> float:
        """The highest mean minus the lowest."""
        return max(self.means.values()) - min(self.means.values())


def effects(table: Table) -> list[Effect]:
    """Return the factors whose values can be compared, the one with the widest range first."""
    found = [_effect(table, place) for place in range(len(table.columns))]
    return sorted((effect for effect in found if effect is not None), key=lambda effect: -effect.range)


def _effect(table: Table, place: int) -> Effect | None:
    """Return the effect of a column over the combinations of the other columns that have most of its values."""
    blocks: dict[tuple[str, ...], dict[str, Group]] = {}
    for group in table.groups:
        if group.cell(table.tasks).values:
            others = (*group.settings[:place], *group.settings[place + 1 :])
            blocks.setdefault(others, {})[group.settings[place]] = group
    options = _shared([set(block) for block in blocks.values()])
    if len(options) < 2:
        return None
    whole = [block for block in blocks.values() if options <= set(block)]
    column = table.columns[place]
    means, scores = {}, {}
    for option in (option for option in column.options if option in options):
        cells = [block[option].cell(table.tasks) for block in whole]
        means[option] = math.fsum(cell.mean or 0.0 for cell in cells) / len(cells)
        scores[option] = tuple(value for cell in cells for value in cell.values)
    counted = len(whole) * len(options)
    return Effect(column.name, means, scores, len(whole), sum(map(len, blocks.values())) - counted)


def _shared(contents: Sequence[set[str]]) -> set[str]:
    """Return the values that the most groups can be compared on: those of one block, held by as many as possible."""
    candidates = [content for content in contents if len(content) > 1]
    return max(candidates, key=lambda one: len(one) * sum(one <= other for other in contents), default=set())
