"""The key of a variant: a digest of all that decides the vector of a text besides the text, known without weights.

Two exceptions: the number of threads and the texts beside it in a batch change the last bits of a float32 vector.
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from embedllm.adapter import AdapterSpec
from embedllm.adapter_files import stored_adapter
from embedllm.backbone import load_config, resolve_dtype, resolve_model
from embedllm.blueprint import Blueprint
from embedllm.data.digest import file_digest
from embedllm.errors import InputError
from embedllm.model_spec import ModelSpec
from embedllm.pooling import PoolingHead
from embedllm.prompt import Prompt

FORMAT = 1  # raise when tokens or masks of an embedder change: vectors are then computed again

_PACKAGES = ("torch", "transformers", "tokenizers", "peft")


def variant_key(plan: Blueprint) -> str:
    """Return what the vectors of an embedder, before they are centred and normalised, are kept under: 64 hex digits.

    Args:
        plan: of the embedder. An adapter that it starts anew changes no vector and does not count.

    Raises:
        InputError: the weights or the code of the head cannot be told from others.
    """
    facts = {"format": FORMAT, **_backbone_facts(plan), **prompt_facts(plan.prompt), **_head_facts(plan)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def depth_of(spec: ModelSpec) -> int:
    """Return the number of layers that are kept."""
    return spec.layers or _full_depth(spec.name)


def _backbone_facts(plan: Blueprint) -> dict[str, Any]:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return {
        "weights": _weights(plan.spec.name),
        "adapter": None if plan.adapter is None else _adapter_facts(plan.adapter),
        "layers": depth_of(plan.spec),
        "final_norm": plan.spec.final_norm,
        "attention": plan.spec.attention,
        "dtype": str(resolve_dtype(plan.spec.dtype)),
        "device": "cpu" if accelerator is None else accelerator.type,
        "versions": {name: version(name) for name in _PACKAGES},
    }


@functools.cache
def _full_depth(name: str) -> int:
    return int(load_config(name).get_text_config(decoder=True).num_hidden_layers)


def _weights(name: str) -> str:
    """Return the digest of a model's config and weights, or the commit of the Hub that they are of."""
    source = resolve_model(name)
    if isinstance(source, Path):
        return _files_digest([source / "config.json", *source.glob("*.safetensors")])
    commit = getattr(load_config(name), "_commit_hash", None)
    if commit is None:
        raise InputError(f"model.name: the commit of {name!r} on the Hub is not known, so its vectors cannot be kept")
    return f"{name}@{commit}"


def _adapter_facts(adapter: AdapterSpec) -> dict[str, Any] | None:
    """Return what tells an adapter from none: its files, or that it changes the precision of the weights."""
    if adapter.path is not None:
        folder = stored_adapter(adapter.path).folder
        return {"kind": adapter.kind, "files": _files_digest([*folder.glob("*.safetensors"), *folder.glob("*.json")])}
    return None if adapter.kind in ("none", "lora") else {"kind": adapter.kind}


@functools.lru_cache(maxsize=8)  # the variants of a scan share two prompts, and a vocabulary has megabytes
def prompt_facts(prompt: Prompt) -> dict[str, Any]:
    """Return what decides the tokens of a text; equal for prompts that give the same."""
    tokenizer = prompt.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for passing in ("truncation", "padding"):  # set by the last call; the length is in the wrapper
        del state[passing]
    return {
        "tokenizer": hashlib.sha256(json.dumps(state).encode()).hexdigest(),
        "max_length": tokenizer.model_max_length,
        "stand_in": tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        "around": (prompt.prefix_tokens, prompt.suffix_tokens),
    }


def _head_facts(plan: Blueprint) -> dict[str, Any]:
    arguments = {name: value for name, value in plan.head_config.items() if name not in ("pool_over", "normalize")}
    digest = hashlib.sha256()
    for name, tensor in sorted(plan.head.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return {
        "head": arguments,
        "pool_over": plan.head.pool_over,
        "head_weights": digest.hexdigest(),
        "head_code": _code_digest(type(plan.head)),
    }


def _code_digest(head: type[PoolingHead]) -> str:
    """Return the digest of the files that a head and its base classes are written in: an edited head is another."""
    classes = head.__mro__[: head.__mro__.index(PoolingHead) + 1]
    try:
        files = [inspect.getsourcefile(cls) for cls in classes]
        return _files_digest([Path(str(file)) for file in files])
    except (OSError, TypeError) as error:
        raise InputError(
            f"pooling._target_: the code of {head.__qualname__!r} is in no file, so its vectors cannot be kept; "
            "write it into a module"
        ) from error


def _files_digest(files: Sequence[Path]) -> str:
    stats = [(file, file.stat()) for file in sorted(set(files))]
    digests = [f"{file.name} {_digest_once(file, stat.st_size, stat.st_mtime_ns)}" for file, stat in stats]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@functools.cache
def _digest_once(file: Path, size: int, mtime_ns: int) -> str:
    """Return the digest of a file, read again only if size or time say that it has changed."""
    return file_digest(file)
