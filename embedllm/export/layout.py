"""The files around weights and tokenizer, in the format that sentence-transformers 3 to 6 read."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from embedllm.centring import Centring
from embedllm.pooling import PoolingHead

MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Key in the pooling module's config by mode."""


def write_modules(
    folder: Path, head: PoolingHead, centring: Centring | None, max_length: int, tokenizer_args: dict[str, Any]
) -> None:
    """Write the module files: Transformer, Pooling, Dense to centre, and Normalize if the head normalizes.

    The names of the modules and their keys are those of sentence-transformers 3; later versions read them too, and
    take a model without a ``modality_config`` as one of plain texts, so no chat template is ever applied.

    Args:
        folder: holds weights and tokenizer.
        head: one that :func:`embedllm.export.exportable.check_head` lets through.
        centring: what is subtracted from the pooled vectors; None: nothing.
        max_length: tokens of the whole prompt.
        tokenizer_args: passed to ``AutoTokenizer.from_pretrained``.
    """
    kinds = ["Transformer", "Pooling"] + ["Dense"] * (centring is not None) + ["Normalize"] * head.normalize
    paths = {kind: f"{i}_{kind}" if i else "" for i, kind in enumerate(kinds)}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(paths.items())
    ]
    write_json(folder / "modules.json", modules)
    transformer: dict[str, Any] = {"max_seq_length": max_length, "do_lower_case": False}
    if tokenizer_args:
        transformer["tokenizer_args"] = tokenizer_args
    write_json(folder / "sentence_bert_config.json", transformer)
    for path in list(paths.values())[1:]:
        (folder / path).mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling_config(head))
    if centring is not None:
        _write_centring(folder / paths["Dense"], centring)
    # The prompt is in the tokenizer: none here.
    settings: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", settings)


def _write_centring(folder: Path, centring: Centring) -> None:
    """Write a Dense module that is the identity with a bias: exact, as each output is one product by 1 plus zeros."""
    width = len(centring.mean)
    identity = "torch.nn.modules.linear.Identity"
    write_json(
        folder / "config.json",
        {"in_features": width, "out_features": width, "bias": True, "activation_function": identity},
    )
    weights = {"linear.weight": torch.eye(width), "linear.bias": -centring.mean.cpu()}
    save_file(weights, folder / "model.safetensors")


def pooling_config(head: PoolingHead) -> dict[str, Any]:
    """Return the config of the Pooling module that equals ``head``."""
    mode = head.sentence_transformers_mode
    active = (mode,) if isinstance(mode, str) else mode or ()
    flags = {key: name in active for name, key in MODES.items()}
    return {"word_embedding_dimension": head.hidden_size, **flags, "include_prompt": True}


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented UTF-8."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
