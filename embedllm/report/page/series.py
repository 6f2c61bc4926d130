"""Which colour a group of runs has in all figures of a page: that of its value of one column."""

from dataclasses import dataclass

from markupsafe import Markup

from embedllm.report.groups import Group, Table
from embedllm.report.page.svg import SERIES, element, join


@dataclass(frozen=True)
class Colouring:
    """The column that decides colours, and the class of each of its values."""

    place: int | None
    name: str
    classes: dict[str, str]

    def of(self, group: Group) -> str:
        """Return the class of a group."""
        return "c0" if self.place is None else self.classes[group.settings[self.place]]

    def legend(self) -> Markup:
        """Return what the colours mean, as HTML; empty if there is one colour."""
        if self.place is None:
            return Markup("")
        keys = [element("span", element("i", class_=f"key {c}"), value) for value, c in self.classes.items()]
        return element("p", element("b", self.name), join(keys), class_="legend")


def colouring(table: Table) -> Colouring:
    """Return colours by pooling if it varies, else by the first column that there are enough colours for."""
    fit = [i for i, column in enumerate(table.columns) if 2 <= len(column.options) <= SERIES]
    fit.sort(key=lambda i: table.columns[i].name != "pooling")
    if not fit:
        return Colouring(None, "", {})
    column = table.columns[fit[0]]
    return Colouring(fit[0], column.name, {value: f"c{i}" for i, value in enumerate(column.options)})
