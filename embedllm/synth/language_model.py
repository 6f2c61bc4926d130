"""Load a decoder with its LM head, to write texts with."""

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig

from embedllm.backbone import load_config, load_tokenizer, resolve_dtype, resolve_model
from embedllm.errors import InputError, renamed
from embedllm.model_source import loading_options, reason
from embedllm.quiet import quiet_transformers

_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<end_of_turn>", "</s>")


def load_language_model(name: str, dtype: str = "auto") -> tuple[Any, Any]:
    """Return a causal language model in eval mode, on the accelerator if there is one, and its tokenizer.

    Args:
        name: ``embedded:NAME``, a folder, a GGUF file or a Hub id.
        dtype: as ``model.dtype``.

    Raises:
        InputError: naming ``generator.model``, also for a model that was saved without an LM head.
    """
    with renamed({"model.name": "generator.model", "model.dtype": "generator.dtype"}):
        load_config(name)
        tokenizer = load_tokenizer(name)
        model = _load(name, writing_dtype(dtype))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return (model if accelerator is None else model.to(accelerator)).eval(), tokenizer


def writing_dtype(name: str) -> torch.dtype:
    """Return the dtype that ``generator.dtype`` stands for.

    One token at a time, a model's weights are read more than multiplied, and bfloat16 halves what is read: on an EPYC
    with AVX512-BF16 a step of 16 rows of the embedded model takes three quarters of the time that float32 takes.
    """
    if name == "auto" and not torch.accelerator.is_available() and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return resolve_dtype(name)


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: what the model's settings say, and the usual ends of a turn."""
    ends: set[int] = set()
    settings: GenerationConfig | None = getattr(model, "generation_config", None)
    for found in (tokenizer.eos_token_id, getattr(settings, "eos_token_id", None), model.config.eos_token_id):
        ends |= set(found if isinstance(found, list) else [] if found is None else [found])
    vocabulary = tokenizer.get_vocab()
    return sorted(ends | {vocabulary[end] for end in _ENDS if end in vocabulary})


def _load(name: str, dtype: torch.dtype) -> Any:
    with quiet_transformers():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                resolve_model(name),
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                **loading_options(name),
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise InputError(f"model.name: the weights of {name!r} cannot be loaded ({reason(error)})") from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"model.name: {name!r} cannot write, as it lacks {', '.join(missing[:3])}")
    return model
