"""The texts of evaluation tasks, read without mteb where they are in a file."""

from collections.abc import Sequence

from embedllm.data.digest import file_digest
from embedllm.errors import InputError
from embedllm.eval.local_files import read_local
from embedllm.eval.specs import TaskSpec, parse_specs
from embedllm.eval.task_texts import TEXT_COLUMNS, task_texts

SETTING = "gates.contamination.tasks"


def evaluation_texts(tasks: Sequence[str], setting: str = SETTING) -> list[str]:
    """Return the distinct texts of tasks.

    Args:
        tasks: as for ``eval.tasks``.
        setting: where they were typed.

    Raises:
        InputError: a file or the Hub cannot be read, or there is no such task.
    """
    texts = [text for spec in parse_specs(tasks, setting) for text in _texts(spec)]
    return list(dict.fromkeys(texts))


def evaluation_files(tasks: Sequence[str], setting: str = SETTING) -> dict[str, str]:
    """Return the SHA-256 of those tasks that are files, by the words that name them; likewise."""
    return {spec.spec: file_digest(spec.path) for spec in parse_specs(tasks, setting) if spec.path is not None}


def _texts(spec: TaskSpec) -> list[str]:
    if spec.path is not None:
        _, data = read_local(spec, spec.path)
        return [str(text) for name, values in data.columns.items() if name in TEXT_COLUMNS for text in values]
    from embedllm.eval.tasks import prepare_tasks

    (task,) = prepare_tasks([spec])
    try:
        return task_texts(task.load())
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # the Hub's, or a task without texts
        raise InputError(
            f"{spec.where} cannot be read ({' '.join(str(error).split())}); it may be a file too"
        ) from error
