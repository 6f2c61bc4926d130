"""Trained weights on disk: ``adapter/`` in PEFT's format, or ``backbone/`` where all weights were trained.

A folder is written under another name and moved into place, so a half-written one is never found.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import load_torch_model, save_torch_state_dict
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from embedllm.data.digest import file_digest
from embedllm.errors import InputError
from embedllm.lora import CONFIG, WEIGHTS, check_finite, read_lora, write_lora
from embedllm.runs import apply_umask

ADAPTER, BACKBONE = "adapter", "backbone"
FULL = "full"

ASIDE = ("base_model_name_or_path", "revision", "task_type", "inference_mode", "lora_dropout", "peft_version")
"""Settings of ``adapter_config.json`` that say nothing about vectors, or that are replaced by ours."""


class Stored(NamedTuple):
    """Trained weights that were found on disk."""

    folder: Path
    kind: str
    """lora | dora | full"""


def stored_adapter(path: str | Path) -> Stored:
    """Find the trained weights of a run, of a folder written by :func:`save_adapter` or of a PEFT folder.

    Raises:
        InputError: there are none, or they are of a kind that is not loaded.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"adapter.path: no folder {str(path)!r}")
    for folder in (root, root / ADAPTER, root / "model" / ADAPTER):
        if (folder / CONFIG).is_file():
            return Stored(folder, _lora_kind(folder))
    for folder in (root, root / BACKBONE, root / "model" / BACKBONE):
        if folder.name == BACKBONE and any(folder.glob("*.safetensors")):
            return Stored(folder, FULL)
    raise InputError(f"adapter.path: {str(path)!r} holds no adapter; give a run, a saved model or a PEFT folder")


def adapter_identity(path: str | Path) -> list[str]:
    """Return the SHA-256 of each file of weights and, for LoRA, of the settings that say what the weights do.

    Raises:
        InputError: there are none, or they are of a kind that is not loaded.
    """
    stored = stored_adapter(path)
    digests = [file_digest(file) for file in sorted(stored.folder.glob("*.safetensors"))]
    if stored.kind == FULL:
        return digests
    decides = {name: value for name, value in lora_settings(stored.folder).items() if name not in ASIDE}
    return [*digests, hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()]


def lora_settings(folder: Path) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says."""
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"adapter.path: {CONFIG} in {str(folder)!r} cannot be read as JSON") from error


def save_adapter(model: nn.Module, folder: Path, *, base: str) -> None:
    """Write the trained weights of a backbone below ``folder``, in place of those that are there.

    Args:
        model: with an adapter, which goes to ``adapter/``; without one all its weights go to ``backbone/``.
        folder: of the embedder.
        base: name of the model that was adapted, for PEFT's own loader.
    """
    name, other = (ADAPTER, BACKBONE) if isinstance(model, PeftModel) else (BACKBONE, ADAPTER)
    with _replaced(folder / name) as temporary:
        if isinstance(model, PeftModel):
            write_lora(model, temporary, base)
        else:
            _write_backbone(model, temporary)
        apply_umask(temporary)
    shutil.rmtree(folder / other, ignore_errors=True)


def load_adapter(model: PreTrainedModel, folder: str | Path) -> nn.Module:
    """Return ``model`` with the trained weights below ``folder``, frozen and in eval mode.

    Raises:
        InputError: they do not fit the model exactly.
    """
    stored = stored_adapter(folder)
    adapted: nn.Module = read_full(model, stored.folder) if stored.kind == FULL else read_lora(model, stored.folder)
    return adapted.requires_grad_(False).eval()


def read_full(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Replace all weights of ``model``, in float32, by those in ``folder``.

    Raises:
        InputError: they do not fit the model exactly, or are not finite.
    """
    for file in sorted(folder.glob("*.safetensors")):
        check_finite(load_file(file), file)
    try:
        load_torch_model(model.float(), folder, strict=True)
    except (RuntimeError, SafetensorError) as error:
        sentence = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"adapter.path: {str(folder)!r} does not fit the model ({sentence})") from error
    return model


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shapes of the weights in the safetensors files of a folder, which are not read.

    Raises:
        InputError: a file is damaged.
    """
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                names = opened.keys()
                shapes |= {name: list(opened.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            raise InputError(f"adapter.path: {str(file)!r} cannot be read ({error})") from error
    return shapes


def _lora_kind(folder: Path) -> str:
    settings = lora_settings(folder)
    if (kind := settings.get("peft_type")) != "LORA":
        raise InputError(f"adapter.path: {str(folder)!r} holds an adapter of type {kind!r}, not LoRA or DoRA")
    if not (folder / WEIGHTS).is_file():
        found = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "no weights"
        raise InputError(f"adapter.path: {str(folder)!r} has {found}, but only safetensors files are loaded")
    return "dora" if settings.get("use_dora") else "lora"


def _write_backbone(model: PreTrainedModel, folder: Path) -> None:
    """Write the weights under the names that they have here, and a config, which makes the folder a model."""
    save_torch_state_dict(model.state_dict(), folder)
    config = copy.deepcopy(model.config)
    config.dtype = torch.float32
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` when all went well."""
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
