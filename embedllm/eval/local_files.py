"""Reads a local file of ``eval.tasks`` as the kind of task that its prefix or its columns ask for."""

from pathlib import Path

from embedllm.data.digest import file_digest
from embedllm.data.formats import open_table
from embedllm.errors import InputError
from embedllm.eval.kinds import COLUMNS, KINDS, TaskKind, kind_for
from embedllm.eval.local_tasks import LocalData
from embedllm.eval.specs import TaskSpec


def read_local(spec: TaskSpec, path: Path) -> tuple[TaskKind, LocalData]:
    """Return the kind and the checked data of a spec whose file is at ``path``.

    Raises:
        InputError: The file cannot be read as that kind.
    """
    table = open_table(path, COLUMNS, spec.where)
    rows = list(table.rows)
    names = list(dict.fromkeys(str(name) for columns in (table.columns, *rows) for name in columns))
    kind = KINDS[spec.kind] if spec.kind else kind_for(names)
    if kind is None:
        choices = " or ".join(dict.fromkeys(", ".join(kind.columns) for kind in KINDS.values()))
        raise InputError(f"{spec.where} has the columns {names!r}; it needs {choices}")
    missing = [name for name in kind.columns if name not in names]
    if missing:
        raise InputError(
            f"{spec.where} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} that "
            f"{kind.name} needs; it has {names!r}"
        )
    if not rows:
        raise InputError(f"{spec.where} has no rows; it needs at least two")
    columns = {name: [row.get(name) for row in rows] for name in kind.columns}
    return kind, LocalData(spec.name, file_digest(path), kind.check(columns, spec.where), spec.where)
