"""The backbone: load any decoder without its LM head, at a chosen depth, attention and dtype."""

import functools
import logging
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils.quantization_config import QuantizationConfigMixin

from embedllm.decoder import blocks, hidden_size, is_bidirectional, remove_final_norm
from embedllm.decoder_config import ATTENTION, adapted_config, check_backbone
from embedllm.embedded_models import embedded_model_path
from embedllm.errors import InputError
from embedllm.model_source import load_config, load_tokenizer, loading_options, reason, resolve_model
from embedllm.quiet import quiet_transformers

__all__ = [
    "blocks",
    "check_backbone",
    "embedded_model_path",
    "hidden_size",
    "is_bidirectional",
    "load_backbone",
    "load_config",
    "load_tokenizer",
    "resolve_dtype",
    "resolve_model",
]

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(name: str, setting: str = "model.dtype") -> torch.dtype:
    """Return the dtype that a setting stands for on this machine.

    Args:
        name: ``auto`` (bfloat16 where the hardware is fast in it, else float32), ``float32``, ``bfloat16`` or
            ``float16``.
        setting: where ``name`` stands.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16() else torch.float32
    if name not in DTYPES:
        raise InputError(f"{setting}: {name!r} is not one of: auto, {', '.join(DTYPES)}")
    if name == "bfloat16" and not trains_fast_in_bfloat16():
        log.warning("%s: bfloat16 is slower than float32 on this machine", setting)
    return DTYPES[name]


def load_backbone(
    name: str,
    *,
    layers: int | None = None,
    final_norm: bool = True,
    attention: str = "causal",
    dtype: str = "auto",
    quantization_config: QuantizationConfigMixin | None = None,
) -> PreTrainedModel:
    """Load a decoder without its LM head, in eval mode, on the CPU.

    ``model(input_ids=..., attention_mask=None or (B, L)).last_hidden_state`` is (B, L, D).

    Args:
        name: ``embedded:NAME``, a folder, a GGUF file or a Hub id.
        layers: keep the first so many blocks; None: all. The config says so too, so the model can be saved.
        final_norm: False removes the norm after the last block that is kept. A saved copy cannot express that.
        attention: ``causal`` or ``bidirectional``; checked by changing tokens and looking at those before them.
        dtype: see :func:`resolve_dtype`.
        quantization_config: quantize the linear layers while loading; the model is then where its kernels run.

    Raises:
        InputError: naming the setting that is wrong.
    """
    config = load_config(name)
    check_backbone(config, layers=layers, attention=attention)
    options = {} if quantization_config is None else {"quantization_config": quantization_config}
    model = _load_weights(name, adapted_config(config, layers, attention), resolve_dtype(dtype), **options)
    if config.get_text_config(decoder=True) is not config:
        model = model.get_decoder()  # drops the vision or audio tower
    model.eval()
    _check_attention(model, name, attention)
    if not final_norm:
        remove_final_norm(model)
    return model


def has_fast_bfloat16() -> bool:
    """Return whether bfloat16 is so much faster than float32 here that it is the default: an accelerator, or AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())


def trains_fast_in_bfloat16() -> bool:
    """Return whether a training step is faster in bfloat16: as above, or on AMD's CPUs with AVX512-BF16.

    Those multiply matrices at twice the rate of float32 (202 against 96 GFLOP/s on two cores of a Zen 4). Intel's
    without AMX are slower in it (180 against 300 on two cores of a Xeon).
    """
    return has_fast_bfloat16() or (torch.cpu._is_avx512_bf16_supported() and _is_amd())


@functools.cache
def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _load_weights(name: str, config: PreTrainedConfig, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    source = resolve_model(name)
    _refuse_pickle(name, source)
    with quiet_transformers():
        try:
            model, info = AutoModel.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # to name them below
                output_loading_info=True,
                **loading_options(name),
                **options,
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise InputError(f"model.name: the weights of {name!r} cannot be loaded ({reason(error)})") from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"model.name: {name!r} lacks weights that the model needs: {_some(missing)}")
    if unlike := sorted(str(key[0]) for key in info["mismatched_keys"]):
        depth = config.get_text_config(decoder=True).num_hidden_layers
        raise InputError(f"model.name: {name!r} has weights of the wrong shape for {depth} layers: {_some(unlike)}")
    return cast(PreTrainedModel, model)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _refuse_pickle(name: str, source: Path | str) -> None:
    """Say what is wrong with a folder that holds no safetensors; a pickle runs code when it is loaded."""
    if isinstance(source, Path) and not any(source.glob("*.safetensors")):
        found = ", ".join(sorted(file.name for file in source.glob("*.bin"))) or "no weights"
        raise InputError(
            f"model.name: {name!r} has {found}, but only safetensors files are loaded; convert it to those"
        )


def _check_attention(model: PreTrainedModel, name: str, attention: str) -> None:
    """Make sure that the attention is what was asked for."""
    try:
        bidirectional = is_bidirectional(model)
        if attention == "bidirectional" and not bidirectional:  # a family's switch may exist and do nothing
            model.config.is_causal = False
            bidirectional = is_bidirectional(model)
    except (AttributeError, TypeError, RuntimeError) as error:  # a forward pass that relies on its causal mask
        if attention == "causal":
            raise
        raise InputError(f"model.attention: {attention!r} breaks {name!r} ({reason(error)})") from error
    if bidirectional != (attention == "bidirectional"):
        found = ATTENTION[bidirectional]
        raise InputError(f"model.attention: {attention!r} is not possible for {name!r}, whose attention is {found}")
