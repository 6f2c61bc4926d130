"""Turns the specs of ``eval.tasks`` into mteb tasks, in two stages.

Whatever the user typed wrong shows in the first, before anything is downloaded or embedded; data that cannot be
downloaded show in the second, one task at a time.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from embedllm.errors import InputError
from embedllm.eval.hub_access import hub_is_reachable
from embedllm.eval.hub_tasks import find_hub_task, load_hub_task
from embedllm.eval.local_files import read_local
from embedllm.eval.mirror import check_mirror
from embedllm.eval.rng import isolated_rng
from embedllm.eval.specs import TaskSpec


class PreparedTask(NamedTuple):
    """A task that is known to exist."""

    name: str
    """The key in ``result.json``."""
    load: Callable[[], Any]
    """Returns the mteb task with its data. To be called once: mteb's tasks keep a random state of their own."""


def prepare_tasks(specs: Sequence[TaskSpec], max_documents: int | None = None) -> list[PreparedTask]:
    """Return the tasks in order, local files read and checked, MTEB names found.

    Args:
        specs: As parsed from ``eval.tasks``.
        max_documents: The most documents (of clustering), pairs, or training and test documents each (of
            classification) that are embedded for a task; None for all.

    Raises:
        InputError: A file cannot be used, a name is unknown, a mirror lacks data, or ``max_documents`` is too small.
    """
    check_max_documents(max_documents)
    online = functools.cache(hub_is_reachable)  # asked once, and only if a task needs the Hub
    with isolated_rng():
        return [_prepare(spec, max_documents, online) for spec in specs]


def check_max_documents(max_documents: object) -> None:
    """Raise an InputError unless ``eval.max_documents`` is null or at least 2."""
    if max_documents is None:
        return
    if not isinstance(max_documents, int) or isinstance(max_documents, bool) or max_documents < 2:
        raise InputError(f"eval.max_documents: {max_documents!r} is not null or a whole number of at least 2")


def _prepare(spec: TaskSpec, max_documents: int | None, online: Callable[[], bool]) -> PreparedTask:
    if spec.path is None:
        task = find_hub_task(spec.name, spec.setting)
        if (mirror := spec.mirror) is not None:
            check_mirror(task, mirror)
            return PreparedTask(spec.name, lambda: load_hub_task(task, max_documents, online=False, mirror=mirror))
        return PreparedTask(spec.name, lambda: load_hub_task(task, max_documents, online=online()))
    kind, data = read_local(spec, spec.path)
    local_task = kind.build(data, max_documents)
    return PreparedTask(spec.name, lambda: local_task)
