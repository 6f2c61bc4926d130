"""From settings to objects: the embedder, the pairs, the loss and the plan of a training."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from embedllm.config import Config
from embedllm.data.digest import file_digest
from embedllm.data.sources import fingerprint
from embedllm.errors import InputError
from embedllm.eval.mirror_files import mirror_digest
from embedllm.eval.specs import TaskSpec, parse_specs
from embedllm.eval.suites import suite_of
from embedllm.launch import cores, place
from embedllm.runs import RunFolder

if TYPE_CHECKING:  # the settings are read without torch
    from embedllm.blueprint import Blueprint, Head
    from embedllm.data.augment import Augmenter
    from embedllm.data.tables import PairTable
    from embedllm.embedder import Embedder
    from embedllm.eval.encoder import SavedEncoder
    from embedllm.module import EmbedderModule
    from embedllm.processes import Processes
    from embedllm.training import TrainingPlan

MODEL_FILES = (
    "config.json",
    "*.safetensors",
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "*.tiktoken"),
)
"""What of a model's folder decides its vectors."""


def identified(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with each file replaced by the SHA-256 of what it holds: where it lies decides nothing.

    Raises:
        InputError: if a file is missing.
    """
    known = {**plain, "model": {**plain["model"], "name": _model_identity(plain["model"]["name"])}}
    if plain["trainer"]["max_steps"] > 0:
        known["data"] = {**plain["data"], "path": fingerprint(plain["data"]["path"])}
        known["eval"] = _development_identity(plain["eval"])
    if plain["adapter"]["path"] is not None:
        from embedllm.adapter_files import adapter_identity

        known["adapter"] = {**plain["adapter"], "path": adapter_identity(plain["adapter"]["path"])}
    return known


def inputs(plain: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the files that decide the weights, by the setting that names them.

    Raises:
        InputError: if a file is missing.
    """
    known = identified(plain)
    named = [("model", "name"), ("data", "path"), ("adapter", "path"), ("eval", "dev")]
    return {
        f"{group}.{name}": found if isinstance(found, str) else ",".join(map(str, found))
        for group, name in named
        if (found := known[group][name]) != plain[group][name]
    }


def _development_identity(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the evaluation with each file of ``dev`` replaced by its digest, and its sample size."""
    specs = parse_specs(evaluation["dev"], "eval.dev", evaluation["mirror"])
    tasks = [_task_identity(spec) for spec in specs]
    sample = evaluation["dev_documents"] or evaluation["max_documents"]
    return {**evaluation, "dev": tasks, "dev_documents": sample if specs else None}


def _task_identity(spec: TaskSpec) -> str:
    if spec.path:
        return f"{spec.kind}:{file_digest(spec.path)}"
    return spec.name if spec.mirror is None else f"{spec.name}:{mirror_digest(spec.name, spec.mirror)}"


def origin(config: Config, plain: Mapping[str, Any], choices: Mapping[str, str], folder: RunFolder) -> dict[str, Any]:
    """Return what the result of a run or a scan says of where it comes from."""
    from embedllm.provenance import commit, environment, hardware, threads, versions

    return {
        "run_id": folder.path.name.rpartition("-")[2],
        "study": config.study,
        "choices": dict(choices),
        "config": plain,
        "suite": suite_of(config.eval.tasks, config.eval.max_documents),
        "versions": versions(),
        "commit": commit(),
        "hardware": hardware(),
        "inputs": inputs(plain),
        "directory": str(Path.cwd()),
        "threads": threads(),
        "environment": environment(),
    }


def task_specs(config: Config) -> list[TaskSpec]:
    """Return the tasks of ``eval.tasks``."""
    return parse_specs(config.eval.tasks, mirror=config.eval.mirror)


def dev_specs(config: Config) -> list[TaskSpec]:
    """Return the tasks of ``eval.dev``."""
    return parse_specs(config.eval.dev, "eval.dev", config.eval.mirror)


@cache
def _model_identity(name: str) -> str:
    """Return a model's name, or for one on disk the SHA-256 of its files: they may change in place."""
    path = Path(name).expanduser()
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return name
    files = sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)})
    return hashlib.sha256("".join(f"{file.name}:{file_digest(file)}\n" for file in files).encode()).hexdigest()


def head_factory(settings: Mapping[str, Any]) -> "Head":
    """Return what makes the head of ``settings`` from the hidden size, a :func:`functools.partial` of its class."""
    factory: Head = _build("pooling", settings, _partial_=True)
    return factory


def plan_embedder(config: Config, head: "Head | None" = None) -> "Blueprint":
    """Return the parts of the embedder besides its weights.

    Args:
        config: the settings.
        head: in place of that of the settings.

    Raises:
        InputError: naming the setting that is wrong.
    """
    import torch

    from embedllm.adapter import AdapterSpec
    from embedllm.blueprint import draw_up
    from embedllm.kept import kept_prompt
    from embedllm.model_spec import ModelSpec

    trained = config.trainer.max_steps > 0 or config.adapter.path is not None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # a learned head may draw its weights
        return draw_up(
            ModelSpec(**vars(config.model)),
            template=config.prompt.template,
            bos=config.prompt.bos,
            head=head or head_factory(config.pooling),
            adapter=AdapterSpec(**vars(config.adapter)) if trained else None,
            make_prompt=kept_prompt,
        )


def build_embedder(parts: "Blueprint", config: Config) -> "Embedder":
    """Return the embedder of a run, on the accelerator if there is one; one with an adapter has weights of its own."""
    from embedllm.embedder import Embedder
    from embedllm.kept import forget, kept_embedder

    if parts.adapter is None:
        return kept_embedder(parts)
    forget()
    return Embedder.from_blueprint(parts, seed=config.seed).to_accelerator()


def untrained_encoder(parts: "Blueprint", config: Config, embedder: "Embedder | None" = None) -> "SavedEncoder":
    """Return what encodes as the model does before any training, with vectors that are kept where there are some.

    Args:
        parts: of the embedder.
        config: the settings.
        embedder: has the weights, if they are loaded already.
    """
    if config.eval.cache:
        from embedllm.kept import kept_embedder
        from embedllm.scan.cached_encoder import CachedEncoder

        return CachedEncoder(parts, centred=config.centring, embedder=embedder, load=kept_embedder)
    embedder = embedder or build_embedder(parts, config)
    if config.centring:
        embedder.centre()
    return embedder


def build_augment(config: Config) -> "Augmenter | None":
    """Return what makes positives of single texts; None if the settings name nothing."""
    if config.data.augment is None:
        return None
    augment: Augmenter = _build("data.augment", config.data.augment)
    return augment


def build_table(config: Config) -> "PairTable":
    """Read the training pairs.

    Raises:
        InputError: if they cannot be trained on.
    """
    from embedllm.data.pairs import read_pairs

    data = config.data
    table = read_pairs(
        data.path,
        anchor=data.anchor,
        positive=data.positive,
        label=data.label,
        negative=data.negative,
        max_pairs=data.max_pairs,
        augmented=data.augment is not None,
    )
    if len(table) < config.trainer.batch_size:
        raise InputError(
            f"trainer.batch_size: {config.trainer.batch_size} pairs make a pool, but {data.path!r} has {len(table)}"
        )
    return table


def build_plan(config: Config) -> "TrainingPlan":
    """Return the settings of the training."""
    from embedllm.training import TrainingPlan

    settings = {name: value for name, value in vars(config.trainer).items() if name not in ("devices", "eval_every")}
    return TrainingPlan(**settings, seed=config.seed)


def check_training(config: Config, parts: "Blueprint") -> None:
    """Build what a training needs besides the model, so that what is wrong with it shows before weights load.

    Args:
        config: of the run.
        parts: of the model.

    Raises:
        InputError: naming the setting.
    """
    import torch

    from embedllm.losses import Matryoshka
    from embedllm.training import check_plan

    check_plan(build_plan(config))
    _check_devices(config.trainer.devices)
    _check_compile(config)
    build_augment(config)
    for loss in _build("loss", config.loss).modules():
        if isinstance(loss, Matryoshka):
            loss.check_width(parts.head.output_size)
    optimizer = _build("optimizer", config.optimizer, [torch.nn.Parameter(torch.zeros(1))])
    if any(group["lr"] <= 0 for group in optimizer.param_groups):
        raise InputError(f"optimizer.lr: {config.optimizer.get('lr')!r} trains nothing; use a number above 0")
    head = _build("pooling", config.pooling, hidden_size=8)
    if config.adapter.kind == "none" and not list(head.parameters()):
        raise InputError("adapter: nothing can be trained with adapter=none and this pooling; use adapter=lora")


def _check_compile(config: Config) -> None:
    """Raise an InputError for what cannot be compiled."""
    if config.trainer.compile and config.trainer.gradient_checkpointing:
        raise InputError("trainer.compile: true with trainer.gradient_checkpointing=true; choose one of them")
    if config.trainer.compile and config.adapter.dropout > 0 and config.adapter.kind not in ("none", "full"):
        raise InputError(
            f"trainer.compile: true with adapter.dropout={config.adapter.dropout:g}, but draws that belong to a text "
            "are not compiled; use adapter.dropout=0"
        )


def _check_devices(devices: int) -> None:
    """Raise an InputError if there are not as many."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = max(devices, place().local_count) if gpus else devices
    if wanted > (gpus or cores()):
        there = f"{gpus} GPU" if gpus else f"{cores()} CPU core"
        plural = "" if (gpus or cores()) == 1 else "s"
        raise InputError(f"trainer.devices: {wanted}, but this machine has {there}{plural}; use as many or fewer")


def build_module(config: Config, embedder: "Embedder", processes: "Processes | None" = None) -> "EmbedderModule":
    """Return the LightningModule of a run, as one of ``processes`` trains it."""
    from embedllm.training import make_module

    loss = _build("loss", config.loss)
    optimizer = _build("optimizer", config.optimizer, _partial_=True)
    return make_module(embedder, loss, optimizer, build_plan(config), processes)


def _build(group: str, node: Mapping[str, Any], *arguments: Any, **more: Any) -> Any:
    """Instantiate the class that ``node`` names; what it refuses is the user's input."""
    try:
        return instantiate(dict(node), *arguments, **more, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        reason = " ".join(str(error.__cause__ or error).split())
        given = ", ".join(f"{group}.{name}={value!r}" for name, value in node.items() if name != "_target_")
        raise InputError(f"{group}: {node['_target_']} refuses {given} ({reason})") from error
