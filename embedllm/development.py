"""The development set of a training: checked before anything is scored, and scored along the way."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedllm.config import Config
from embedllm.data.digest import file_digest
from embedllm.errors import InputError
from embedllm.eval.specs import TaskSpec, parse_specs
from embedllm.recipe import dev_specs, task_specs
from embedllm.runs import RunFolder, selects
from embedllm.scoring import score

if TYPE_CHECKING:
    from embedllm.embedder import Embedder
    from embedllm.selection import Entries
    from embedllm.training import Development


def check_development(config: Config) -> None:
    """Read and check the tasks of ``eval.dev``.

    Raises:
        InputError: one of them cannot be scored, or is in ``eval.tasks`` too.
    """
    from embedllm.eval.tasks import prepare_tasks

    check_overlap(config)
    prepare_tasks(dev_specs(config), _documents(config))


def check_overlap(config: Config) -> None:
    """Raise an InputError if a task that picks weights is in ``eval.tasks`` too. Imports neither torch nor mteb."""
    if config.eval.select and not config.eval.allow_overlap:
        _refuse_overlap(dev_specs(config), task_specs(config))


def check_unseen(model: str, specs: Sequence[TaskSpec]) -> None:
    """Raise an InputError if one of ``specs`` picked the weights of the finished run in the folder ``model``."""
    result = RunFolder(Path(model).expanduser()).read_result()
    if result is None or not result.get("train") or not selects(result["config"]):
        return
    picked = _picked_by(result)
    for spec in specs:
        if _identity(spec) in picked:
            raise InputError(
                f"{spec.where} picked the weights of {model!r}, and its score is no test of them; leave it out, or add "
                "--allow-overlap"
            )


def _picked_by(result: Mapping[str, Any]) -> set[str]:
    """Return the identities of the tasks that picked the weights of a run; where files are not kept, of those found."""
    selection = result["train"].get("selection", {})
    if "of" in selection:
        return {(of or {}).get("sha256") or name for name, of in selection["of"].items()}
    found = set()
    for entry in result["config"]["eval"]["dev"]:
        with suppress(InputError):  # the file is no longer there
            found |= {_identity(spec) for spec in parse_specs([entry])}
    return found


def build_development(config: Config, folder: RunFolder) -> "Development | None":
    """Return how the development set follows the training; None if there is none."""
    if not config.eval.dev:
        return None
    from embedllm.selection import Selection
    from embedllm.training import Development

    specs, every = dev_specs(config), config.trainer.eval_every

    def score_dev(embedder: "Embedder") -> "Entries":
        """Score the embedder as it would be if the training ended here."""
        if config.centring:
            embedder.centre()
        try:
            return score(embedder, specs, _documents(config), lambda *_: None)
        finally:
            embedder.centring = None

    selection = Selection(folder, keep=config.eval.average or 1, patience=config.eval.patience)
    return Development(
        score=score_dev,
        every=every or config.trainer.max_steps,
        selection=selection,
        select=config.eval.select,
        average=config.eval.average is not None,
    )


def _documents(config: Config) -> int | None:
    return config.eval.max_documents if config.eval.dev_documents is None else config.eval.dev_documents


def _refuse_overlap(dev: Sequence[TaskSpec], tasks: Sequence[TaskSpec]) -> None:
    known = {_identity(spec) for spec in tasks}
    for spec in dev:
        if _identity(spec) in known:
            raise InputError(
                f"{spec.where} is in eval.tasks too, and a score that picked the weights is no test of them; "
                "take it out of one of them, or set eval.allow_overlap=true"
            )


def _identity(spec: TaskSpec) -> str:
    """Return the name of an MTEB task, or what scores hold of a file."""
    return file_digest(spec.path)[:16] if spec.path else spec.name
