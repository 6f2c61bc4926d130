"""Which backbone an embedder has, and how it is loaded."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from embedllm.adapter import AdapterSpec, quantization_config
from embedllm.backbone import is_bidirectional, load_backbone
from embedllm.errors import InputError


@dataclass(frozen=True)
class ModelSpec:
    """Which backbone, and how it is loaded; the settings of the ``model`` group."""

    name: str
    """``embedded:NAME``, a folder, a GGUF file or a Hub id."""
    layers: int | None = None
    """Keep the first so many layers; None: all."""
    final_norm: bool = True
    """Whether the backbone's final norm follows the last layer that is kept."""
    attention: str = "causal"
    dtype: str = "auto"
    max_length: int = 512
    """Tokens of the whole prompt; longer texts are cut."""


def load_model(spec: ModelSpec, adapter: AdapterSpec | None = None) -> PreTrainedModel:
    """Load the backbone, in the precision that ``adapter`` (not attached here) needs."""
    return load_backbone(
        spec.name,
        layers=spec.layers,
        final_norm=spec.final_norm,
        attention=spec.attention,
        dtype=spec.dtype,
        quantization_config=None if adapter is None else quantization_config(adapter),
    )


def check_attention(model: nn.Module, spec: ModelSpec) -> None:
    """Raise if a backbone that is to look both ways no longer does, now that it has an adapter."""
    if spec.attention == "bidirectional" and not is_bidirectional(model):
        raise InputError("model.attention: 'bidirectional' is lost when the adapter is attached; use 'causal'")
