"""One LoRA or DoRA adapter on a decoder, in PEFT's format: put it on, read it, write it."""

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from embedllm.decoder import blocks
from embedllm.errors import InputError
from embedllm.kernels.fused_lora import fuse

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PROBE_TOKENS = 16
DORA_ROUNDING = 1e-5
"""Of states, relative: DoRA divides and multiplies by the lengths of weights even where it changes nothing."""


def with_lora(
    model: PreTrainedModel, config: LoraConfig, weights: dict[str, Tensor] | None = None, *, seed: int = 0
) -> nn.Module:
    """Return ``model`` with an adapter in float32; the global random state is left as it was.

    Args:
        model: changed in place; all its own weights are frozen.
        config: of the adapter.
        weights: of the adapter; None: drawn from ``seed``.
        seed: decides the drawn weights.

    Raises:
        ValueError: ``weights`` are not exactly those of the adapter.
    """
    config.task_type = "FEATURE_EXTRACTION"  # others want a model with an LM head
    config.base_model_name_or_path = None
    training, state = model.training, torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # PEFT draws on the CPU, wherever the model is
    try:
        with _quiet_peft():
            adapted = get_peft_model(model, config)
    finally:
        torch.set_rng_state(state)
    fuse(adapted)
    if weights is not None:
        _check_weights(weights, lora_weights(adapted))
        set_peft_model_state_dict(adapted, weights)
    return cast(nn.Module, adapted.train(training))  # the new dropout starts in training mode


def lora_weights(model: PeftModel) -> dict[str, Tensor]:
    """Return the weights of the adapter by their name on disk."""
    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def read_lora(model: PreTrainedModel, folder: Path, *, trainable: bool = False, dropout: float = 0.0) -> nn.Module:
    """Return ``model`` with the adapter in ``folder``, as float32; one of the model with an LM head is understood.

    Raises:
        InputError: the weights there are not exactly those that the adapter would have on this model, or not finite.
    """
    config = LoraConfig.from_pretrained(str(folder))
    config.lora_dropout = dropout
    config.inference_mode = not trainable
    try:
        weights, prefix = _read_weights(folder / WEIGHTS, model)
        _rename_targets(config, model, prefix)
        return with_lora(model, config, weights)
    except InputError:
        raise
    except (ValueError, SafetensorError) as error:
        raise InputError(f"adapter.path: {str(folder)!r} does not fit the model ({_reason(error)})") from error


def misfit(folder: Path, skeleton: PreTrainedModel) -> str | None:
    """Return why the adapter in ``folder`` does not fit a model; None if it does.

    Args:
        folder: with ``adapter_config.json``.
        skeleton: the model without memory for its weights, on the device ``meta``; changed in place.

    Raises:
        InputError: a weight of the adapter is not finite.
    """
    config = LoraConfig.from_pretrained(str(folder))
    config.init_lora_weights = True  # other ways need the weights of the model
    config.task_type, config.base_model_name_or_path = "FEATURE_EXTRACTION", None
    try:
        weights, prefix = _read_weights(folder / WEIGHTS, skeleton)
        _rename_targets(config, skeleton, prefix)
        with _quiet_peft():
            adapted = get_peft_model(skeleton, config, low_cpu_mem_usage=True)
        _check_weights(weights, lora_weights(adapted))
    except InputError:
        raise
    except (ValueError, SafetensorError) as error:
        return _reason(error)
    return None


def changes_states(model: PeftModel) -> bool:
    """Return whether the adapter of ``model``, in eval mode, moves the states of tokens by more than rounding."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.arange(PROBE_TOKENS, device=model.device).remainder(vocabulary).unsqueeze(0)
    with torch.inference_mode():
        adapted = model(input_ids=ids, use_cache=False).last_hidden_state.float()
        with model.disable_adapter():
            plain = model(input_ids=ids, use_cache=False).last_hidden_state.float()
    rounding = DORA_ROUNDING if model.active_peft_config.use_dora else 0.0
    return bool((adapted - plain).norm() > rounding * plain.norm())


def check_finite(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise an InputError if one of ``weights``, which are those of ``file``, holds NaN or infinity."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise InputError(
                f"adapter.path: {str(file)!r} holds NaN or infinity in {name!r}, so it is damaged or its training "
                "diverged; give other weights"
            )


def write_lora(model: PeftModel, folder: Path, base: str) -> None:
    """Write the adapter of ``model`` into ``folder``; ``base`` is what PEFT's own loader takes for the model's name."""
    config = copy.deepcopy(model.active_peft_config)
    config.base_model_name_or_path = base
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)  # equal adapters give equal files
    config.save_pretrained(str(folder))
    weights = {name: tensor.cpu().contiguous() for name, tensor in lora_weights(model).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def blocks_path(model: PreTrainedModel) -> str:
    """Return the name of the list of blocks in ``model``, such as ``layers``."""
    layers = blocks(model)
    return next(str(name) for name, module in model.named_modules() if module is layers)


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Hush the warnings that PEFT causes by reading attributes that transformers has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        yield


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _check_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise unless names and shapes are the same."""
    wrong = []
    for names, what in ((found.keys() - expected.keys(), "left over"), (expected.keys() - found.keys(), "missing")):
        if names:
            wrong.append(f"{_weights(len(names))} {what}, such as {min(names)}")
    shapes = {name: (list(found[name].shape), list(expected[name].shape)) for name in found.keys() & expected.keys()}
    misshapen = [name for name, (its, ours) in shapes.items() if its != ours]
    if misshapen:
        name = min(misshapen)
        its, ours = shapes[name]
        wrong.append(f"{_weights(len(misshapen))} of another shape, such as {name} with {its}, not {ours}")
    if wrong:
        raise ValueError("; ".join(wrong))


def _weights(count: int) -> str:
    return "1 weight is" if count == 1 else f"{count} weights are"


def _read_weights(file: Path, model: PreTrainedModel) -> tuple[dict[str, Tensor], str]:
    """Return the weights under the names that they have here, and what stood before the names of the blocks.

    The names of a model with an LM head are longer, by ``model.`` in most families.

    Raises:
        ValueError: they are of several lists of blocks, such as those of a text and of a vision model.
    """
    longer = re.compile(rf"^base_model\.model\.((?:.*?\.)??)(?={re.escape(blocks_path(model))}\.\d+\.)")
    stored = load_file(file)
    check_finite(stored, file)
    prefixes = {match[1] for name in stored if (match := longer.match(name))}
    if len(prefixes) > 1:
        raise ValueError(f"it adapts more than one list of blocks: {', '.join(map(repr, sorted(prefixes)))}")
    return {longer.sub("base_model.model.", name): tensor for name, tensor in stored.items()}, "".join(prefixes)


def _rename_targets(config: LoraConfig, model: PreTrainedModel, prefix: str) -> None:
    """Make ``config`` name the layers of ``model`` that it named by longer names, with ``prefix`` before them.

    Names in full, regular expressions and ``layers_to_transform`` without a pattern are written for the longer names.
    """
    if not prefix or config.target_modules == "all-linear":
        return
    names = [name for name, _ in model.named_modules() if name]
    meant = [name for name in names if check_target_module_exists(config, prefix + name)]
    for setting in ("rank_pattern", "alpha_pattern"):
        pattern = getattr(config, setting)
        keys = {name: get_pattern_key(pattern, prefix + name) for name in meant}
        setattr(config, setting, {name: pattern[key] for name, key in keys.items() if key in pattern})
    if meant != [name for name in names if check_target_module_exists(config, name)]:
        config.target_modules = meant
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
