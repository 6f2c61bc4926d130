"""A run before its training, along it, and after it; and other runs of the same model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel

from embedllm.analysis.pooled_rows import check_number
from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.model_source import load_config, resolve_model
from embedllm.model_spec import load_model
from embedllm.prompt import SLOT
from embedllm.runs import RunFolder
from embedllm.storage import Outline, build_head, find_saved, load_outline


@dataclass(frozen=True)
class Source:
    """Where an embedder is to be loaded from, and what it is called."""

    label: str
    path: str
    """What ``Embedder.load`` takes."""
    trained: bool = True
    """False: as it was before its training."""
    centred: bool = False
    """Whether its vectors are centred even where those that were saved are not, as along a training."""


class _MadeOf(NamedTuple):
    model: Path | str
    layers: int | None
    template: str


def sources(run: str, compared: Sequence[str] = (), *, one_prompt: bool = False) -> list[Source]:
    """Return the stages of a run in order, and then the other runs; no weights are loaded.

    A run that was trained has the stages ``before``, ``step 10`` and so on (``trainer.snapshots``), and ``after``; one
    that went on from ``adapter.path`` has ``base``, the model without an adapter, in place of ``before``. Any other
    embedder has one.

    Args:
        run: a finished run, a saved embedder or a bare decoder.
        compared: others, of the same model.
        one_prompt: whether these must have the prompt of the run too.

    Raises:
        InputError: one of them is not finished, is of another model, or is named twice.
    """
    folder = find_saved(run)
    outline = None if folder is None else load_outline(folder)
    centred = outline is not None and outline.centred
    found = []
    if outline is not None and _is_trained(outline):
        found.append(Source("before" if outline.adapter.path is None else "base", run, trained=False))
    steps = RunFolder(Path(run).expanduser()).snapshots()
    found += [Source(f"step {step:,}", str(path), centred=centred) for step, path in steps.items()]
    if found:
        found.append(Source("after", run))
    own = _made_of(run)
    _check_distinct([run, *compared])
    for other in compared:
        theirs = _made_of(other)
        if theirs[:2] != own[:2]:
            raise InputError(
                f"--compare: {other!r} is of {_model(theirs)} and {run!r} of {_model(own)}; compare runs of one model"
            )
        if one_prompt and theirs.template != own.template:
            raise InputError(
                f"--compare: {other!r} has the prompt {theirs.template!r} and {run!r} {own.template!r}; a --text needs "
                "one prompt, a --corpus does not"
            )
    runs = list(compared) if found else [run, *compared]
    labels = [*(source.label for source in found), *map(_name, runs)]
    return [*found, *(Source(path if labels.count(_name(path)) > 1 else _name(path), path) for path in runs)]


def check_depth(run: str, layer: int | None) -> None:
    """Raise if a model has no layer of this number; None is any. No weights are loaded.

    Where not every layer has attention, :func:`embedllm.analysis.pooled_rows.check_layer` knows more, once they are.
    """
    if layer is None:
        return
    made = _made_of(run)
    depth = made.layers or load_config(str(made.model)).get_text_config(decoder=True).num_hidden_layers
    check_number(layer, range(1, depth + 1))


@contextmanager
def opened(source: Source) -> Iterator[Embedder]:
    """Yield the embedder of a stage, on the accelerator if there is one.

    Before its training a model has no adapter, or its own weights where all of them were trained, and a head with the
    weights that it starts from. If the vectors of the run are centred, so are those before and along its training, by
    their own means.
    """
    embedder = Embedder.load(source.path).to_accelerator()
    centred = embedder.centring is not None
    if source.trained:
        yield _centred(embedder, source.centred and not centred)
        return
    backbone: Any = embedder.backbone
    embedder.head = build_head(embedder.head_config, embedder.head.hidden_size).to(embedder.device)
    if isinstance(backbone, PeftModel):
        with backbone.disable_adapter():
            yield _centred(embedder.eval(), centred)
        return
    if embedder.adapter.kind != "none":
        embedder.backbone = load_model(embedder.spec).to(embedder.device)
    yield _centred(embedder.eval(), centred)


def _centred(embedder: Embedder, centred: bool) -> Embedder:
    if centred:
        embedder.centre()
    return embedder


def _check_distinct(paths: Sequence[str]) -> None:
    places = [(find_saved(path) or Path(path)).resolve() for path in paths]
    for i, path in enumerate(paths):
        if places[i] in places[:i]:
            raise InputError(f"--compare: {path!r} is named twice; name each run once")


def _is_trained(outline: Outline) -> bool:
    return outline.adapter.kind != "none" or bool(outline.head.state_dict())


def _made_of(path: str) -> _MadeOf:
    folder = find_saved(path)
    if folder is None:
        return _MadeOf(resolve_model(path), None, SLOT)
    outline = load_outline(folder)
    return _MadeOf(resolve_model(outline.spec.name), outline.spec.layers, outline.prompt["template"])


def _model(made: _MadeOf) -> str:
    depth = "" if made.layers is None else f" (its first {made.layers} layers)"
    return f"the model {str(made.model)!r}{depth}"


def _name(path: str) -> str:
    return Path(path).name or path
