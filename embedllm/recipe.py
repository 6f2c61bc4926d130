"""From settings to objects: the embedder, the pairs, the loss and the plan of a training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from embedllm.config import Config
from embedllm.data.digest import file_digest
from embedllm.data.sources import fingerprint
from embedllm.errors import InputError

if TYPE_CHECKING:  # the settings are read without torch
    from embedllm.data.augment import Augmenter
    from embedllm.data.tables import PairTable
    from embedllm.embedder import Embedder
    from embedllm.module import EmbedderModule
    from embedllm.training import TrainingPlan


def identified(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with each file replaced by the SHA-256 of what it holds: where it lies decides nothing.

    Raises:
        InputError: if a file is missing.
    """
    known = dict(plain)
    if plain["trainer"]["max_steps"] > 0:
        known["data"] = {**plain["data"], "path": fingerprint(plain["data"]["path"])}
    if plain["adapter"]["path"] is not None:
        from embedllm.adapter_files import stored_adapter

        folder = stored_adapter(plain["adapter"]["path"]).folder
        digests = [file_digest(path) for path in sorted(folder.glob("*.safetensors"))]
        known["adapter"] = {**plain["adapter"], "path": digests}
    return known


def build_embedder(config: Config) -> "Embedder":
    """Return the embedder of a run, on the accelerator if there is one."""
    from embedllm.adapter import AdapterSpec
    from embedllm.embedder import Embedder, ModelSpec

    trained = config.trainer.max_steps > 0 or config.adapter.path is not None
    embedder = Embedder.from_pretrained(
        ModelSpec(**vars(config.model)),
        template=config.prompt.template,
        bos=config.prompt.bos,
        head=instantiate(dict(config.pooling), _partial_=True, _convert_="all"),
        adapter=AdapterSpec(**vars(config.adapter)) if trained else None,
        seed=config.seed,
    )
    return embedder.to_accelerator()


def build_augment(config: Config) -> "Augmenter | None":
    """Return what makes positives of single texts; None if the settings name nothing."""
    if config.data.augment is None:
        return None
    augment: Augmenter = instantiate(config.data.augment, _convert_="all")
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

    settings = {name: value for name, value in vars(config.trainer).items() if name != "devices"}
    return TrainingPlan(**settings, seed=config.seed)


def build_module(config: Config, embedder: "Embedder") -> "EmbedderModule":
    """Return the LightningModule of a run."""
    from embedllm.training import make_module

    loss = instantiate(dict(config.loss), _convert_="all")
    optimizer = instantiate(dict(config.optimizer), _partial_=True, _convert_="all")
    return make_module(embedder, loss, optimizer, build_plan(config))
