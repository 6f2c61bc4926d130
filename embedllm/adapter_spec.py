"""Which weights are trained and how: the settings of the ``adapter`` group, and their checks before weights load."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from embedllm.adapter_files import FULL, lora_settings, stored_adapter, weight_shapes
from embedllm.data.digest import file_digest
from embedllm.decoder import blocks
from embedllm.decoder_config import adapted_config
from embedllm.errors import InputError
from embedllm.lora import misfit
from embedllm.model_cache import MANIFEST, cache_folder
from embedllm.model_source import EMBEDDED

log = logging.getLogger(__name__)

KINDS = ("none", "lora", "dora", "qlora", FULL)


@dataclass(frozen=True)
class AdapterSpec:
    """Which weights of the backbone are trained; the settings of the ``adapter`` group."""

    kind: str = "none"
    """none | lora | dora | qlora | full"""
    r: int = 64
    """Rank of the update of a weight matrix."""
    alpha: float = 16
    """The update is scaled by ``alpha / r``."""
    dropout: float = 0.05
    """On the input of the update; 0 to below 1."""
    layers: int | None = None
    """Train the top so many layers; None: all."""
    target_modules: list[str] | None = None
    """Names of linear layers inside the blocks; None: all of them."""
    path: str | None = None
    """Continue from a run, from a folder written by ``Embedder.save`` or from a PEFT folder; None: start anew."""


def check_adapter(spec: AdapterSpec, config: PreTrainedConfig, *, layers: int | None = None) -> None:
    """Check the settings of the ``adapter`` group against a model's config, before its weights load.

    Args:
        spec: the settings.
        config: of the whole model.
        layers: blocks of it that are kept; None: all.

    Raises:
        InputError: naming the setting.
    """
    if spec.kind not in KINDS:
        raise InputError(f"adapter.kind: {spec.kind!r} is not one of: {', '.join(KINDS)}")
    _check_use(spec)
    _check_ranges(spec, layers or config.get_text_config(decoder=True).num_hidden_layers)
    quantization_config(spec)
    if spec.path is not None:
        _check_path(spec.kind, spec.path)
        check = _check_full if spec.kind == FULL else _check_base
        check(stored_adapter(spec.path).folder, config, layers)
    if spec.target_modules is not None:
        check_target_modules(spec.target_modules, _skeleton(config))


def check_target_modules(names: Sequence[str], model: PreTrainedModel) -> None:
    """Raise if one of ``names`` is no linear layer of the blocks of ``model``."""
    if not names:
        raise InputError("adapter.target_modules: [] names no layer; null stands for all linear layers")
    paths = [path for block in blocks(model) for path in linear_layers(block)]
    for name in names:
        if not any(f".{path}".endswith(f".{name}") for path in paths):
            raise InputError(
                f"adapter.target_modules: {name!r} is no linear layer; the linear layers of a block are: "
                f"{', '.join(leaf_names(paths))}"
            )


def linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of a block by their path in it, such as ``self_attn.k_proj``."""
    return {path: module for path, module in block.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def leaf_names(paths: Sequence[str]) -> list[str]:
    """Return the last components of ``paths``, each once and in their order."""
    return list(dict.fromkeys(path.rpartition(".")[2] for path in paths))


def quantization_config(spec: AdapterSpec) -> BitsAndBytesConfig | None:
    """Return how the backbone is quantized: 4-bit NormalFloat for ``qlora`` (Dettmers et al., 2023), else None.

    Raises:
        InputError: for ``qlora`` on a machine without CUDA or bitsandbytes.
    """
    if spec.kind != "qlora":
        return None
    lacking = [] if torch.cuda.is_available() else ["CUDA GPU"]
    lacking += [] if find_spec("bitsandbytes") else ["bitsandbytes package"]
    if lacking:
        raise InputError(f"adapter.kind: 'qlora' is not possible without a {' and a '.join(lacking)}; use 'lora'")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def resolve_adapter(spec: AdapterSpec) -> AdapterSpec:
    """Return ``spec`` with the rank and alpha of the adapter that it continues, and log them."""
    if spec.path is None or spec.kind == FULL:
        return spec
    settings = lora_settings(stored_adapter(spec.path).folder)
    resolved = replace(spec, r=int(settings["r"]), alpha=settings["lora_alpha"])
    log.info(
        "adapter.path: %s was trained on %s with r %d and alpha %g, which replace adapter.r and adapter.alpha",
        *(spec.path, settings.get("base_model_name_or_path"), resolved.r, resolved.alpha),
    )
    return resolved


def _check_use(spec: AdapterSpec) -> None:
    """Raise for a setting that would have no effect."""
    if spec.kind == "none" and spec.path is not None:
        raise InputError(f"adapter.path: {spec.path!r} has no effect with adapter.kind 'none'")
    if spec.kind == "none" and spec.layers is not None:
        raise InputError(f"adapter.layers: {spec.layers!r} has no effect with adapter.kind 'none'")
    if spec.kind in ("none", FULL) and spec.target_modules is not None:
        raise InputError(f"adapter.target_modules: {spec.target_modules!r} has no effect with kind {spec.kind!r}")
    if spec.kind != FULL and spec.path is not None:
        for name in ("layers", "target_modules"):
            if (value := getattr(spec, name)) is not None:
                raise InputError(
                    f"adapter.{name}: {value!r} has no effect, as the adapter at adapter.path keeps its own"
                )


def _check_ranges(spec: AdapterSpec, depth: int) -> None:
    if spec.layers is not None and not 1 <= spec.layers <= depth:
        raise InputError(
            f"adapter.layers: {spec.layers!r} does not fit the model; it has {depth} layers (allowed 1 to {depth})"
        )
    if spec.r < 1:
        raise InputError(f"adapter.r: {spec.r!r} is not possible; the lowest value is 1")
    if not spec.alpha > 0:
        raise InputError(f"adapter.alpha: {spec.alpha!r} is not possible; it must be above 0")
    if not 0 <= spec.dropout < 1:
        raise InputError(f"adapter.dropout: {spec.dropout!r} is not possible; allowed is 0 to below 1")


def _check_path(kind: str, path: str) -> None:
    """Raise unless there is something of this kind to continue from."""
    found = stored_adapter(path).kind
    if found != {"qlora": "lora"}.get(kind, kind):
        raise InputError(f"adapter.kind: {kind!r}, but adapter.path {path!r} holds the result of {found!r}")


def _check_base(folder: Path, config: PreTrainedConfig, layers: int | None) -> None:
    """Raise unless the adapter in ``folder`` fits a model, and was trained on the same as far as that can be told."""
    base, model = lora_settings(folder).get("base_model_name_or_path"), _model_name(config)
    reason = misfit(folder, _skeleton(adapted_config(config, layers, "causal")))
    if reason is not None:
        raise InputError(
            f"adapter.path: {str(folder)!r}, trained on {base!r}, does not fit the model {model!r} ({reason})"
        )
    same = same_model(str(base or ""), model)
    if same is None:
        known = base or "a model that it does not name"
        log.warning("adapter.path: %s was trained on %s; that %s is the same cannot be told", folder, known, model)
    elif not same:
        raise InputError(
            f"adapter.path: {str(folder)!r} was trained on {base!r}, whose weights are not those of model.name "
            f"{model!r}; use model.name={base}"
        )


def _check_full(folder: Path, config: PreTrainedConfig, layers: int | None) -> None:
    """Raise unless the weights in ``folder`` have the shapes of those of a model; what is missing shows later."""
    expected = {
        name: list(weight.shape)
        for name, weight in _skeleton(adapted_config(config, layers, "causal")).state_dict().items()
    }
    found = weight_shapes(folder)
    wrong = sorted(name for name, shape in found.items() if expected.get(name) != shape)
    if wrong:
        raise InputError(
            f"adapter.path: {str(folder)!r} does not fit the model {_model_name(config)!r} ({len(wrong)} weights are "
            f"left over or of another shape, such as {wrong[0]})"
        )


def same_model(one: str, other: str) -> bool | None:
    """Return whether two names are of models with equal weights; None if that cannot be told on this machine."""
    if one == other:
        return True
    if one.startswith(EMBEDDED) and other.startswith(EMBEDDED):
        return False
    first, second = _weight_files(one), _weight_files(other)
    if not first or not second or first[0].suffix != second[0].suffix:  # GGUF, and perhaps what was made of it
        return None
    if [file.resolve() for file in first] == [file.resolve() for file in second]:
        return True
    if [file.stat().st_size for file in first] != [file.stat().st_size for file in second]:
        return False
    return [file_digest(file) for file in first] == [file_digest(file) for file in second]


def _weight_files(name: str) -> list[Path]:
    """Return the files of a model's weights, in order; none if they are not on this machine."""
    path = cache_folder() / name.removeprefix(EMBEDDED) if name.startswith(EMBEDDED) else Path(name).expanduser()
    if name and path.is_file():
        return [path]
    folder = path if name and path.is_dir() else _hub_folder(name)
    return [] if folder is None else sorted(folder.glob("*.safetensors"))


def _hub_folder(name: str) -> Path | None:
    """Return the folder that a model of the Hub was fetched into; None if it was not."""
    try:
        config = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name of the Hub
        return None
    return Path(config).parent if isinstance(config, str) else None


def _model_name(config: PreTrainedConfig) -> str:
    """Return the name of the model that ``config`` is of, as it is saved with an adapter."""
    folder = Path(config.name_or_path).expanduser()
    if not folder.is_dir():
        return str(config.name_or_path)
    if folder.parent != cache_folder():
        return str(folder.resolve())
    made_of = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["source"]
    return str(made_of.get("path", f"{EMBEDDED}{folder.name}"))


def _skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the decoder of ``config`` without memory for its weights."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return model if config.get_text_config(decoder=True) is config else model.get_decoder()
