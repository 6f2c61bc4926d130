"""An embedder on disk: tokenizer, head and trained weights beside a manifest; the base model by reference."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer

from embedllm.adapter import AdapterSpec, load_adapter, save_adapter
from embedllm.backbone import load_config
from embedllm.centring import Centring
from embedllm.errors import InputError
from embedllm.model_source import resolve_model
from embedllm.model_spec import ModelSpec, check_attention, load_model
from embedllm.pooling import PoolingHead
from embedllm.prompt import Prompt
from embedllm.runs import RunFolder, apply_umask
from embedllm.targets import locate

MANIFEST = "embedllm.json"
HEAD_WEIGHTS = "head.safetensors"
CENTRING = "centring.safetensors"
ST_MODULES = "modules.json"
"""What tells a folder of sentence-transformers from that of a bare decoder."""


class Outline(NamedTuple):
    """What is known of a saved embedder before weights load."""

    spec: ModelSpec
    head: PoolingHead
    """With the weights that it starts from, not those that were saved."""
    head_config: dict[str, Any]
    adapter: AdapterSpec
    prompt: dict[str, Any]
    """Arguments of :class:`Prompt` besides the tokenizer."""
    centred: bool


class Parts(NamedTuple):
    """What an embedder is made of; the arguments of its class, in their order."""

    backbone: nn.Module
    prompt: Prompt
    head: PoolingHead
    spec: ModelSpec
    head_config: dict[str, Any]
    adapter: AdapterSpec
    centring: Centring | None = None


def save_parts(parts: Parts, folder: Path) -> None:
    """Write ``parts`` into ``folder``, the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    base = _lasting_name(parts.spec.name)
    parts.prompt.tokenizer.save_pretrained(folder)
    if state := parts.head.state_dict():
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / HEAD_WEIGHTS)
    if parts.centring is not None:
        save_file(parts.centring.state_dict(), folder / CENTRING)
    if parts.adapter.kind != "none":
        save_adapter(parts.backbone, folder, base=base)
    apply_umask(folder)
    manifest = {
        "format": 1,
        "model": {**asdict(parts.spec), "name": base},
        "adapter": asdict(parts.adapter),
        "prompt": {
            "template": parts.prompt.template,
            "prefix_tokens": parts.prompt.prefix_tokens,
            "suffix_tokens": parts.prompt.suffix_tokens,
        },
        "pooling": parts.head_config,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def load_outline(folder: Path) -> Outline:
    """Read what :func:`save_parts` wrote, without tokenizer and weights."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    spec, adapter = ModelSpec(**manifest["model"]), AdapterSpec(**manifest.get("adapter", {}))
    head = build_head(manifest["pooling"], load_config(spec.name).get_text_config(decoder=True).hidden_size)
    return Outline(spec, head, manifest["pooling"], adapter, manifest["prompt"], (folder / CENTRING).exists())


def load_parts(folder: Path) -> Parts:
    """Read what :func:`save_parts` wrote."""
    spec, head, head_config, adapter, arguments, centred = load_outline(folder)
    prompt = Prompt(AutoTokenizer.from_pretrained(folder), **arguments)
    if (folder / HEAD_WEIGHTS).exists():
        head.load_state_dict(load_file(folder / HEAD_WEIGHTS))
    centring = Centring(load_file(folder / CENTRING)["mean"]) if centred else None
    backbone: nn.Module = load_model(spec, adapter)
    if adapter.kind != "none":
        backbone = load_adapter(backbone, folder)
        check_attention(backbone, spec)
    return Parts(backbone, prompt, head, spec, head_config, adapter, centring)


def find_saved(path: str | Path) -> Path | None:
    """Return the folder with the manifest: ``path``, or its ``model`` if ``path`` is a run; None if there is none.

    Raises:
        InputError: ``path`` is a run that has no model yet, a scan, which never has one, or a folder of
            sentence-transformers (such as an export), whose pooling and prompt this package does not read.
    """
    run = RunFolder(Path(path).expanduser())
    found = next((folder for folder in (run.path, run.model) if (folder / MANIFEST).is_file()), None)
    if found is None and run.scan.is_file():
        raise InputError(f"RUN: {str(path)!r} is a scan, which has scores and no model; give a run")
    if found is None and run.config.is_file() and not (run.path / "config.json").is_file():
        raise InputError(
            f"RUN: {str(path)!r} is not finished, so it has no model yet; start it again with the same command"
        )
    if found is None and (run.path / ST_MODULES).is_file():
        raise InputError(
            f"RUN: {str(path)!r} is a folder of sentence-transformers, whose pooling and prompt are not read; give "
            f"the run that it was exported from, or st:{path} where a baseline may stand"
        )
    return found


def describe_head(factory: Callable[[int], PoolingHead]) -> dict[str, Any]:
    """Return ``_target_`` and arguments of a head class or of a partial of one."""
    arguments = dict(factory.keywords) if isinstance(factory, functools.partial) else {}
    target = factory.func if isinstance(factory, functools.partial) else factory
    return {"_target_": f"{target.__module__}.{target.__qualname__}", **arguments}


def build_head(config: dict[str, Any], hidden_size: int) -> PoolingHead:
    """Build the head that ``config`` describes; only subclasses of :class:`PoolingHead` are called."""
    arguments = dict(config)
    target = arguments.pop("_target_")
    try:
        head = locate(target)
    except ImportError as error:
        raise InputError(
            f"pooling._target_: {target!r} cannot be imported ({error}); name the folder of its module in PYTHONPATH"
        ) from error
    if not (isinstance(head, type) and issubclass(head, PoolingHead)):
        raise InputError(f"pooling._target_: {target!r} is not a PoolingHead")
    return head(hidden_size, **arguments)


def _lasting_name(name: str) -> str:
    """Return the name as it will still be found from another working directory."""
    if name.startswith("embedded:"):
        return name
    found = resolve_model(name)
    return str(Path(name).expanduser().resolve()) if isinstance(found, Path) else name
