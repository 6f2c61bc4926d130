"""Files that transformers 4 reads as transformers 5 does: the old names of settings beside the new ones."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from embedllm.export.layout import read_json, write_json
from embedllm.quiet import quiet_transformers

PLAIN_TOKENIZER = {"tokenizer_type": "modernbert"}
"""What makes ``AutoTokenizer`` load ``tokenizer.json`` as it is, in transformers 4.48 and later: the tokenizer of this
model type is the plain class. By the model type alone, some families get a class that makes its own normalizer."""

PLAIN_TOKENIZER_NOTE = (
    "AutoTokenizer alone loads another tokenizer for this family of models: in transformers, give it "
    f"tokenizer_type={PLAIN_TOKENIZER['tokenizer_type']!r}, as sentence-transformers does here"
)


def add_old_names(folder: Path) -> None:
    """Add to ``config.json`` what older versions look for, as long as this version reads the same config from it."""
    path = folder / "config.json"
    config = read_json(path)
    expected = _settings(folder)
    for name, value in old_names(config).items():
        write_json(path, {**config, name: value})
        if expected.items() <= _settings(folder).items():
            config[name] = value
    write_json(path, config)


def old_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a ``config.json`` under the names that they had in transformers 4."""
    old: dict[str, Any] = {}
    if "dtype" in config:
        old["torch_dtype"] = config["dtype"]
    rope = config.get("rope_parameters") or {}
    local = rope.get("sliding_attention")
    if local is not None:  # one set of parameters for each kind of layer
        old["rope_local_base_freq"] = local.get("rope_theta")
        rope = rope.get("full_attention") or {}
    if "rope_theta" in rope:
        old["rope_theta"] = rope["rope_theta"]
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if rope.get("rope_type", "default") != "default":
        old["rope_scaling"] = {name: rope[name] for name in rope if name not in ("rope_theta", "partial_rotary_factor")}
    if pattern := _window_pattern(config.get("layer_types") or []):
        old["sliding_window_pattern"] = pattern
    return old


def plain_tokenizer_class(folder: Path) -> dict[str, Any]:
    """Name the tokenizer's class as transformers 4 knows it; return arguments that loading it needs besides."""
    path = folder / "tokenizer_config.json"
    config = {name: value for name, value in read_json(path).items() if name != "backend"}
    write_json(path, {**config, "tokenizer_class": "PreTrainedTokenizerFast"})
    with quiet_transformers():
        found = AutoTokenizer.from_pretrained(folder)
    return {} if type(found) is PreTrainedTokenizerFast else dict(PLAIN_TOKENIZER)


def _window_pattern(layer_types: list[str]) -> int | None:
    """Return p if every p-th layer has full attention and the others a sliding window; None if that is not so."""
    sliding = [kind == "sliding_attention" for kind in layer_types]
    if not any(sliding):
        return None
    pattern = (sliding.index(False) if False in sliding else len(sliding)) + 1
    return pattern if sliding == [(i + 1) % pattern != 0 for i in range(len(sliding))] else None


def _settings(folder: Path) -> dict[str, Any]:
    with quiet_transformers():
        return dict(AutoConfig.from_pretrained(folder).to_dict())
