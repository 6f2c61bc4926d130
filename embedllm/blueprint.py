"""What an embedder is made of, settled and checked before any weights load."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from embedllm.adapter import AdapterSpec, check_adapter, resolve_adapter
from embedllm.backbone import check_backbone, load_config, load_tokenizer, resolve_dtype
from embedllm.errors import InputError
from embedllm.model_spec import ModelSpec
from embedllm.pooling import MeanPooling, PoolingHead
from embedllm.prompt import SLOT, Prompt, compile_prompt
from embedllm.storage import describe_head

Head = Callable[[int], PoolingHead]
"""Called with the hidden size: a head class, or a :func:`functools.partial` of one."""


@dataclass(frozen=True)
class Blueprint:
    """The parts of an embedder besides its backbone."""

    spec: ModelSpec
    prompt: Prompt
    head: PoolingHead
    head_config: dict[str, Any]
    adapter: AdapterSpec | None
    """None: the backbone is left as it is loaded."""


def prompt_of(name: str, template: str, *, bos: bool | str, append_eos: bool, max_length: int) -> Prompt:
    """Return a template compiled into the tokenizer of a model; see :func:`embedllm.prompt.compile_prompt`."""
    return compile_prompt(load_tokenizer(name), template, bos=bos, append_eos=append_eos, max_length=max_length)


def draw_up(
    spec: ModelSpec | str,
    *,
    template: str = SLOT,
    bos: bool | str = "auto",
    head: Head = MeanPooling,
    adapter: AdapterSpec | None = None,
    make_prompt: Callable[..., Prompt] = prompt_of,
) -> Blueprint:
    """Return the parts of an embedder; see :meth:`embedllm.embedder.Embedder.from_pretrained` for the arguments.

    ``make_prompt`` is :func:`prompt_of`, or one that keeps what it made.

    Raises:
        InputError: naming the setting that is wrong.
    """
    spec = ModelSpec(spec) if isinstance(spec, str) else spec
    resolve_dtype(spec.dtype)
    config = load_config(spec.name)
    check_backbone(config, layers=spec.layers, attention=spec.attention, max_length=spec.max_length)
    if adapter is not None:
        check_adapter(adapter, config, layers=spec.layers)
        adapter = resolve_adapter(adapter)
    pooling = head(config.get_text_config(decoder=True).hidden_size)
    prompt = make_prompt(spec.name, template, bos=bos, append_eos=pooling.appends_eos, max_length=spec.max_length)
    if pooling.pool_over == "suffix" and prompt.suffix_tokens == 0:
        raise InputError(f"pooling.pool_over: 'suffix', but nothing follows the text in the prompt {template!r}")
    return Blueprint(spec, prompt, pooling, describe_head(head), adapter)
