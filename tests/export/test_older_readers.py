"""Folders are read by older versions of sentence-transformers and transformers too."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_decoders import llama3_tokenizer
from transformers import AutoConfig, AutoModel

from embedllm.adapter import AdapterSpec
from embedllm.export import export
from embedllm.export.layout import pooling_config
from embedllm.export.older_readers import add_old_names, old_names
from embedllm.pooling import ConcatPooling, EosPooling, WeightedMeanPooling

PACKAGES = (
    f"torch=={torch.__version__.partition('+')[0]}",
    "sentence-transformers==3.4.1",
    "transformers==4.51.3",
    "peft",
)
READER = Path(__file__).with_name("old_reader.py")


def test_values_keep_their_old_names_too() -> None:
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
    assert old_names({"dtype": "float32", "rope_parameters": scaled}) == {
        "torch_dtype": "float32",
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    }


def test_parameters_for_each_kind_of_layer_keep_their_old_names() -> None:
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    layers = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    found = old_names({"rope_parameters": rope, "layer_types": layers})
    assert found == {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 3}


@pytest.mark.parametrize(
    ("layers", "pattern"), [("ssfssf", 3), ("ssss", 5), ("ffff", None), ("fsfs", None), ("ssfs", 3), ("sfff", None)]
)
def test_a_window_pattern_is_named_only_where_it_is_one(layers: str, pattern: int | None) -> None:
    kinds = {"s": "sliding_attention", "f": "full_attention"}
    assert old_names({"layer_types": [kinds[letter] for letter in layers]}).get("sliding_window_pattern") == pattern


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2", "olmo2"])
def test_old_names_change_nothing_for_this_version(
    make_decoder: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    AutoConfig.from_pretrained(make_decoder(architecture)).save_pretrained(tmp_path)
    before = AutoConfig.from_pretrained(tmp_path).to_dict()
    add_old_names(tmp_path)
    after = AutoConfig.from_pretrained(tmp_path).to_dict()
    assert {name: after[name] for name in before} == before


def test_pooling_is_named_as_in_version_3() -> None:
    active = {
        head: [name for name, value in pooling_config(head(8)).items() if value is True and name != "include_prompt"]
        for head in (EosPooling, WeightedMeanPooling, ConcatPooling)
    }
    assert active == {
        EosPooling: ["pooling_mode_lasttoken"],
        WeightedMeanPooling: ["pooling_mode_weightedmean_tokens"],
        ConcatPooling: ["pooling_mode_mean_tokens", "pooling_mode_lasttoken"],
    }


def scaled_llama(folder: Path) -> Path:
    """A Llama whose rotary positions are far from the defaults of any version."""
    tokenizer = llama3_tokenizer()
    tokenizer.save_pretrained(folder)
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        rope_parameters={**rope, "original_max_position_embeddings": 32},
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def old_python() -> Path:
    """Python of a virtual environment with older versions, made once in a cache of the user's."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedllm-test-venvs"
    folder = Path(os.environ.get("EMBEDLLM_TEST_VENVS") or default) / "sentence-transformers-3.4.1"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for names in (PACKAGES[:1], PACKAGES):  # torch first and alone: the others then accept the build that is there
            command = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", *names]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                reason = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
                pytest.skip(f"pip cannot install {' '.join(names)}: {reason}")
        done.touch()
    return python


@pytest.mark.slow
def test_versions_3_and_4_give_the_same_ids_and_vectors(old_python: Path, build: Any, tmp_path: Path) -> None:
    targets = tmp_path / "out"
    for architecture in ("llama", "qwen3", "gemma3"):
        for name, head in {"eos": EosPooling, "concat": ConcatPooling, "weighted": WeightedMeanPooling}.items():
            source = tmp_path / "saved" / f"{architecture}-{name}"
            build(architecture, head=head).save(source)
            export(source, targets / source.name)
    build("llama", "Cluster the text: {text}").save(tmp_path / "saved" / "space")
    export(tmp_path / "saved" / "space", targets / "bfloat16", dtype="bfloat16")
    export(scaled_llama(tmp_path / "scaled"), targets / "scaled")
    centred = build("llama", head=ConcatPooling)
    centred.centre()
    centred.save(tmp_path / "saved" / "centred")
    export(tmp_path / "saved" / "centred", targets / "centred")
    adapted = build("llama", adapter=AdapterSpec("lora", r=4))
    for parameter in adapted.backbone.parameters():  # as a training would
        parameter.data.add_(0.1 * parameter.requires_grad)
    adapted.save(tmp_path / "saved" / "lora")
    export(tmp_path / "saved" / "lora", targets / "adapter", adapter_only=True)

    command = [str(old_python), str(READER), *map(str, sorted(targets.iterdir()))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["versions"] == ["3.4.1", "4.51.3"]
    assert {name: report["ids"] for name, report in found["folders"].items() if not report["ids"]} == {}
    lowest = {name: report["cosine"] for name, report in found["folders"].items()}
    assert len(lowest) == 13
    assert {
        name: cosine for name, cosine in lowest.items() if cosine < (0.999 if name == "bfloat16" else 0.99999)
    } == {}
