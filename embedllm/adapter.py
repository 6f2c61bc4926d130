"""Adapters: what of a backbone is trained, from LoRA on its top layers to all of its weights.

LoRA (Hu et al., 2021) and DoRA (Liu et al., 2024) are PEFT's. Their weights are float32 over a base of any dtype.
"""

import copy
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from embedllm.adapter_files import FULL, load_adapter, read_full, save_adapter, stored_adapter
from embedllm.adapter_spec import (
    AdapterSpec,
    check_adapter,
    check_target_modules,
    leaf_names,
    linear_layers,
    quantization_config,
    resolve_adapter,
)
from embedllm.decoder import blocks
from embedllm.errors import InputError
from embedllm.lora import blocks_path, changes_states, lora_weights, read_lora, with_lora

__all__ = [
    "AdapterSpec",
    "attach_adapter",
    "check_adapter",
    "load_adapter",
    "merged",
    "quantization_config",
    "resolve_adapter",
    "save_adapter",
    "trainable_parameters",
    "training_casts",
]


def attach_adapter(model: PreTrainedModel, spec: AdapterSpec, *, seed: int) -> nn.Module:
    """Make the weights that ``spec`` names trainable, and no others; vectors stay as they are unless it has a path.

    Args:
        model: changed in place.
        spec: checked by :func:`check_adapter`.
        seed: decides the initial weights of the adapter. The global random state is left as it was.

    Returns:
        A PEFT model around ``model`` for lora, dora and qlora, else ``model`` itself.

    Raises:
        InputError: the settings, or the weights at ``adapter.path``, do not fit the model, or these change nothing.
    """
    frozen: nn.Module = model.requires_grad_(False)
    if spec.kind == "none":
        return frozen
    if spec.kind == FULL:
        return _unfrozen(model, spec)
    if spec.path is not None:
        adapted = read_lora(model, stored_adapter(spec.path).folder, trainable=True, dropout=spec.dropout)
        return _moving(adapted, spec.path)
    return with_lora(model, _lora_config(model, spec), seed=seed)


def trainable_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return name and value of the parameters that are trained."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def merged(model: nn.Module) -> PreTrainedModel:
    """Return a plain copy of the backbone in float32, with its adapter merged in float32, in eval mode.

    Merging into bfloat16 weights would round away much of what was learned.
    """
    copied: Any = copy.deepcopy(model)
    if isinstance(model, PeftModel) and getattr(model, "is_quantized", False):
        base = copied.unload().dequantize().float()
        copied = with_lora(base, copy.deepcopy(model.active_peft_config), lora_weights(model))
    copied = copied.float()
    plain = copied.merge_and_unload() if isinstance(copied, PeftModel) else copied
    return cast(PreTrainedModel, plain.requires_grad_(False).eval())


def training_casts(model: nn.Module, autocast: torch.dtype | None) -> AbstractContextManager[None]:
    """Keep PEFT from casting the input of each adapted layer to float32 while autocast picks the dtype.

    Args:
        model: a backbone, or a module that holds one.
        autocast: dtype of autocast; None: there is none and the casts are needed, so nothing changes.
    """
    context: AbstractContextManager[None] = disable_input_dtype_casting(model, active=autocast is not None)
    return context


def _moving(adapted: nn.Module, path: str) -> nn.Module:
    """Return a model with an adapter, or raise if the adapter does nothing."""
    training = adapted.training
    if not changes_states(cast(PeftModel, adapted.eval())):
        raise InputError(
            f"adapter.path: the adapter in {path!r} fits the model but changes no vector, as one that was never "
            "trained; give another, or leave adapter.path out"
        )
    return adapted.train(training)


def _unfrozen(model: PreTrainedModel, spec: AdapterSpec) -> nn.Module:
    model.float()
    if spec.path is not None:
        read_full(model, stored_adapter(spec.path).folder)
    trained: nn.Module = model if spec.layers is None else blocks(model)[-spec.layers :]
    trained.requires_grad_(True)
    return cast(nn.Module, model)


def _lora_config(model: PreTrainedModel, spec: AdapterSpec) -> LoraConfig:
    layers = blocks(model)
    first = 0 if spec.layers is None else len(layers) - spec.layers
    linear = {path: module for block in layers[first:] for path, module in linear_layers(block).items()}
    if spec.target_modules is not None:
        check_target_modules(spec.target_modules, model)
    return LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        use_dora=spec.kind == "dora",
        target_modules=list(spec.target_modules or leaf_names(list(linear))),
        layers_to_transform=list(range(first, len(layers))),
        layers_pattern=blocks_path(model),
        fan_in_fan_out=all(isinstance(module, Conv1D) for module in linear.values()),  # stored transposed
    )
