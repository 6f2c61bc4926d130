"""What varies between the runs of a study, seeds aside: the first columns of its table.

Only settings that decide the weights count (:func:`embedllm.runs.decisive`). Where the option that was chosen in a
group, such as ``data``, says all that varies in it, the option is one column in place of several.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from embedllm.report.study import Run
from embedllm.report.tables import FIRST, NAMED, flatten
from embedllm.runs import decisive

NONE = "-"
"""Of a run that has no such setting: one without a training has no loss."""

Flat = Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """Something that varies."""

    name: str
    values: Mapping[str, str]
    """By the name of the run's folder."""

    @property
    def options(self) -> list[str]:
        """The different values: numbers in their order, then words in that of the runs."""
        return sorted(dict.fromkeys(self.values.values()), key=lambda value: _number(value))


def find_columns(runs: Sequence[Run]) -> list[Column]:
    """Return the columns that tell apart runs with settings, whether they are finished or not; seeds do not."""
    known = [run for run in runs if run.config]
    flats = {run.name: flat_settings(run) for run in known}
    varying = _varying(list(flats.values()))
    columns: list[Column] = []
    for group in _groups(known):
        prefix = group.replace("/", ".")
        inside = [name for name in varying if name == prefix or name.startswith(f"{prefix}.")]
        if inside and (values := _by_choice(known, flats, group, inside)) is not None:
            columns.append(Column(group.rpartition("/")[2] if group == "data/augment" else group, values))
            varying = [name for name in varying if name not in inside]
    for name in varying:
        columns.append(Column(NAMED.get(name, name), _values(known, flats, name)))
    columns += [column for column in (_studies(known), _documents(known)) if column is not None]
    order = {name: place for place, name in enumerate(FIRST)}
    return sorted(columns, key=lambda column: order.get(column.name, len(order)))


def flat_settings(run: Run) -> Flat:
    """Return what decides the weights as ``{"loss.temperature": "0.1", ...}``, the seed and nulls left out."""
    flat = flatten(decisive(run.config))
    return {name: _word(value) for name, value in flat.items() if value is not None and name != "seed"}


def _varying(flats: Sequence[Flat]) -> list[str]:
    """Return the settings that vary; that a run without a training lacks those of one is said by its steps alone."""
    found = []
    untrained = [flat.get("trainer.max_steps") == "0" for flat in flats]
    for name in dict.fromkeys(name for flat in flats for name in flat):
        values = [flat.get(name) for flat in flats]
        present = {value for value in values if value is not None}
        lacking = [value is None for value in values]
        if len(present) > 1 or (any(lacking) and lacking != untrained):
            found.append(name)
    return found


def _groups(runs: Iterable[Run]) -> list[str]:
    """Return the groups of options, those inside another (``data/augment``) first."""
    return sorted({group for run in runs for group in run.choices}, key=lambda group: (-group.count("/"), group))


def _by_choice(
    runs: Sequence[Run], flats: Mapping[str, Flat], group: str, inside: Sequence[str]
) -> dict[str, str] | None:
    """Return the option of each run if it says all that varies ``inside`` its group; else None."""
    means: dict[str, tuple[str | None, ...]] = {}
    spoken: dict[tuple[str | None, ...], str] = {}
    for run in sorted(runs, key=lambda run: not run.done):  # an unfinished one does not know all its choices
        content = tuple(flats[run.name].get(name) for name in inside)
        option = run.choices.get(group) or spoken.get(content)
        if all(value is None for value in content):
            option = NONE
        if option is None or option == "custom" or means.setdefault(option, content) != content:
            return None
        spoken.setdefault(content, option)
    if len(set(spoken)) != len(means) or len(means) < 2:
        return None
    return {run.name: spoken[tuple(flats[run.name].get(name) for name in inside)] for run in runs}


def _values(runs: Sequence[Run], flats: Mapping[str, Flat], name: str) -> dict[str, str]:
    group = NAMED.get(name, "")
    spoken = {
        flats[run.name].get(name): run.choices[group] for run in runs if run.choices.get(group, "custom") != "custom"
    }
    values = {run.name: flats[run.name].get(name, NONE) for run in runs}
    if len(set(spoken.values())) == len(spoken):
        values = {run: spoken.get(value, value) for run, value in values.items()}
    return _shortened(values) if name.endswith((".path", ".name")) else values


def _shortened(values: Mapping[str, str]) -> dict[str, str]:
    """Return paths without the folders that all of them share."""
    paths = {value for value in values.values() if "/" in value}
    folders = [set(level) for level in zip(*(path.split("/")[:-1] for path in paths), strict=False)]
    shared = len(list(takewhile(lambda level: len(level) == 1, folders))) if len(paths) > 1 else 0
    return {run: "/".join(value.split("/")[shared:]) if value in paths else value for run, value in values.items()}


def _studies(runs: Sequence[Run]) -> Column | None:
    values = {run.name: str(run.config.get("study", NONE)) for run in runs}
    return Column("study", values) if len(set(values.values())) > 1 else None


def _documents(runs: Sequence[Run]) -> Column | None:
    """Return what tells apart runs that were scored on other documents of one task: such scores do not mix."""
    asked = dict.fromkeys(task for run in runs for task in run.asked)
    tasks = [task for task in asked if len(documents(runs, task)) > 1]
    if not tasks:
        return None
    contents = {run.name: tuple(run.documents.get(task, "") for task in tasks) for run in runs if run.done}
    letters = {content: chr(ord("A") + i % 26) for i, content in enumerate(dict.fromkeys(contents.values()))}
    sizes = {run.name: "all" if (size := _sample(run)) is None else f"at most {size}" for run in runs}
    said = {(sizes[name], letters[content]) for name, content in contents.items()}
    enough = len(said) == len({size for size, _ in said})
    values = {}
    for run in runs:  # one that failed was to be scored like the others of its size
        same = [letters[content] for name, content in contents.items() if sizes[name] == sizes[run.name]]
        letter = letters[contents[run.name]] if run.name in contents else next(iter(same), "?")
        values[run.name] = sizes[run.name] if enough else f"{sizes[run.name]}, files {letter}"
    return Column("documents", values)


def documents(runs: Iterable[Run], task: str) -> set[str]:
    """Return the different documents that the scores of a task are of, as texts."""
    return {run.documents[task] for run in runs if task in run.documents}


def _sample(run: Run) -> Any:
    return run.evaluation.get("max_documents")


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _number(value: str) -> tuple[int, float]:
    try:
        return 0, float(value)
    except ValueError:
        return (2, 0.0) if value == NONE else (1, 0.0)
