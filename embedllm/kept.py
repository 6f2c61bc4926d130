"""What jobs in a row share: the weights of the last model that was only read, and compiled prompts.

Weights that are trained are never shared. A model whose files have changed is loaded again.
"""

import functools
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

from torch import nn

from embedllm.backbone import resolve_dtype, resolve_model
from embedllm.blueprint import Blueprint, prompt_of
from embedllm.embedder import Embedder
from embedllm.prompt import Prompt

PROMPTS = 8
"""Compiled prompts that are kept; each holds a vocabulary."""

_backbones: dict[Hashable, nn.Module] = {}
"""At most one."""


def kept_embedder(parts: Blueprint) -> Embedder:
    """Return the embedder of a blueprint, for reading, on the accelerator if there is one.

    Args:
        parts: those without an adapter share the weights that the last call loaded, if they are the same.
    """
    if parts.adapter is not None:
        forget()
        return Embedder.from_blueprint(parts).to_accelerator()
    key = (replace(parts.spec, max_length=1), resolve_dtype(parts.spec.dtype), _files(parts.spec.name))
    if key not in _backbones:
        forget()
        _backbones[key] = Embedder.from_blueprint(parts).to_accelerator().backbone
    made = Embedder(_backbones[key], parts.prompt, parts.head, parts.spec, parts.head_config)
    return made.to_accelerator().eval()


def forget() -> None:
    """Give the memory of the weights back: other ones are about to be loaded."""
    _backbones.clear()


def kept_prompt(name: str, template: str, *, bos: bool | str, append_eos: bool, max_length: int) -> Prompt:
    """Return what :func:`embedllm.blueprint.prompt_of` does; nobody may change its tokenizer."""
    return _prompt(_files(name), name, template, bos, append_eos, max_length)


@functools.lru_cache(maxsize=PROMPTS)
def _prompt(files: Hashable, name: str, template: str, bos: bool | str, append_eos: bool, max_length: int) -> Prompt:
    return prompt_of(name, template, bos=bos, append_eos=append_eos, max_length=max_length)


def _files(name: str) -> Hashable:
    """Return what changes when the files of a model do."""
    source = resolve_model(name)
    if not isinstance(source, Path):
        return source
    stats = [(file.name, file.stat()) for file in sorted(source.iterdir())]
    return str(source.resolve()), tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
