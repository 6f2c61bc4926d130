"""What a decoder's config allows, and the config of the same decoder with fewer blocks or two-sided attention."""

import copy
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from embedllm.errors import InputError
from embedllm.model_source import reason

ATTENTION = ("causal", "bidirectional")


def check_backbone(
    config: PreTrainedConfig, *, layers: int | None = None, attention: str = "causal", max_length: int | None = None
) -> None:
    """Check settings of the ``model`` group against a model's config, before its weights load.

    Args:
        config: of the whole model.
        layers: blocks to keep; None: all.
        attention: ``causal`` or ``bidirectional``.
        max_length: tokens of the longest text, prompt included; None: not checked.

    Raises:
        InputError: naming the setting.
    """
    if config.is_encoder_decoder:
        raise InputError(f"model.name: {config.model_type!r} is an encoder-decoder model; a decoder-only one is needed")
    text = config.get_text_config(decoder=True)
    depth = text.num_hidden_layers
    if layers is not None and not 1 <= layers <= depth:
        raise InputError(
            f"model.layers: {layers!r} is not possible; the model has {depth} layers; allowed 1 to {depth}"
        )
    if attention not in ATTENTION:
        raise InputError(f"model.attention: {attention!r} is not one of: {', '.join(ATTENTION)}")
    positions = getattr(text, "max_position_embeddings", None)
    if max_length is not None and positions is not None and not 1 <= max_length <= positions:
        raise InputError(f"model.max_length: {max_length!r} is not possible; the model allows 1 to {positions} tokens")


def adapted_config(config: PreTrainedConfig, layers: int | None, attention: str) -> PreTrainedConfig:
    """Return a config of the same model with fewer blocks and another attention."""
    text = config.get_text_config(decoder=True)
    changes = _depth_changes(text, layers) | _attention_changes(text, attention)
    if not changes:
        return config
    try:  # built anew, not changed in place: constructors derive values, such as the width of a two-sided window
        adapted = type(text).from_dict({**text.to_dict(), **changes})
    except (ValueError, StrictDataclassError) as error:
        raise InputError(f"model.layers: {layers!r} is refused by the model's config ({reason(error)})") from error
    adapted.name_or_path = text.name_or_path
    if text is config:
        return adapted
    whole = copy.copy(config)
    for key, value in vars(config).items():
        if value is text:
            setattr(whole, key, adapted)
    return whole


def _depth_changes(text: PreTrainedConfig, layers: int | None) -> dict[str, Any]:
    """Return the config values for the first ``layers`` blocks: their number and every list with a value for each."""
    depth = text.num_hidden_layers
    if layers is None or layers == depth:
        return {}
    changes: dict[str, Any] = {
        key: value[:layers]
        for key, value in text.to_dict().items()
        if isinstance(value, list | tuple) and len(value) == depth and "token" not in key and key != "architectures"
    }
    return {**changes, text.attribute_map.get("num_hidden_layers", "num_hidden_layers"): layers}


def _attention_changes(text: PreTrainedConfig, attention: str) -> dict[str, Any]:
    """Return the config values for the attention: the family's own switch where it has one, else transformers'."""
    if attention == "causal":
        return {}
    if isinstance(own := getattr(text, "use_bidirectional_attention", None), bool):
        return {} if own else {"use_bidirectional_attention": True}
    return {"is_causal": False}
