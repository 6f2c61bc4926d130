"""Adapters made by PEFT alone on the model with its LM head: the vectors are those of that model's own states."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.errors import InputError
from embedllm.pooling import LastTokenPooling, MeanPooling

CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'
TEXTS = ["a man is driving a car", "It ends here.", "The bank raised its rate, for the third time this year."]
MakeDecoder = Callable[[str], Path]


def made(base: Path, folder: Path, *, trained: bool = True, **settings: Any) -> PeftModel:
    """Save an adapter of the causal language model at ``base`` and return the model that has it."""
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    arguments = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "down_proj"], **settings}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(whole, LoraConfig(task_type="CAUSAL_LM", **arguments)).eval()
        for name, weight in model.named_parameters():
            if trained and "lora_B" in name:
                weight.data.normal_(std=0.3)
    model.save_pretrained(folder)
    return model


def opened(base: Path, folder: Path, kind: str = "lora", head: Any = LastTokenPooling, **settings: Any) -> Embedder:
    adapter = AdapterSpec(kind, path=str(folder))
    spec = ModelSpec(str(base), dtype="float32", max_length=64, **settings)
    return Embedder.from_pretrained(spec, template=CLUSTER, head=head, adapter=adapter)


def by_hand(model: PeftModel, rows: list[list[int]], head: Any) -> np.ndarray:
    """Pool the last hidden states of each text alone, as the language model gives them, to unit length."""
    vectors = []
    for row in rows:
        with torch.inference_mode():
            states: Tensor = model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[-1][0]
        pooled = states[-1] if head is LastTokenPooling else states.sum(dim=0) / len(row)
        vectors.append((pooled / pooled.square().sum().sqrt()).numpy())
    return np.array(vectors)


def assert_same_vectors(model: PeftModel, embedder: Embedder, head: Any = LastTokenPooling) -> None:
    rows = embedder.tokenize(TEXTS)
    expected = by_hand(model, rows, head)
    np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=3e-6)
    with model.disable_adapter():
        assert np.abs(by_hand(model, rows, head) - expected).max() > 0.02


@pytest.mark.parametrize("head", [LastTokenPooling, MeanPooling])
def test_the_vectors_are_those_of_the_language_model(tiny_path: Path, tmp_path: Path, head: Any) -> None:
    model = made(tiny_path, tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert all(name.startswith("base_model.model.model.layers.") for name in names)
    assert_same_vectors(model, opened(tiny_path, tmp_path, head=head), head)


@pytest.mark.parametrize(
    ("family", "targets"),
    [("qwen3", ["q_proj", "o_proj"]), ("gemma3", ["k_proj", "up_proj"]), ("gpt2", ["c_attn", "c_fc"])],
)
def test_other_families_name_their_blocks_otherwise(
    make_decoder: MakeDecoder, tmp_path: Path, family: str, targets: list[str]
) -> None:
    base = make_decoder(family)
    model = made(base, tmp_path, target_modules=targets, fan_in_fan_out=family == "gpt2")
    assert_same_vectors(model, opened(base, tmp_path))


WRITTEN_FOR_LONGER_NAMES = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "some layers": {"layers_to_transform": [2, 3]},
    "names in full": {"target_modules": ["model.layers.0.self_attn.q_proj", "model.layers.3.mlp.up_proj"]},
    "a regular expression": {"target_modules": r".*\bmodel\.layers\.[\d]+\.(?:self_attn|mlp)\.(?:q_proj|up_proj)"},
    "all linear layers": {"target_modules": "all-linear"},
    "a name left out": {"target_modules": ["q_proj"], "exclude_modules": ["model.layers.1.self_attn.q_proj"]},
    "ranks": {
        "rank_pattern": {"model.layers.1.self_attn.q_proj": 2, "v_proj": 3},
        "alpha_pattern": {"^model.layers.2.mlp.down_proj": 64},
    },
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("settings", WRITTEN_FOR_LONGER_NAMES.values(), ids=WRITTEN_FOR_LONGER_NAMES)
def test_settings_for_the_longer_names_are_understood(
    make_decoder: MakeDecoder, tmp_path: Path, settings: dict[str, Any]
) -> None:
    base = make_decoder("llama")
    model = made(base, tmp_path / "peft", **settings)
    embedder = opened(base, tmp_path / "peft", "dora" if "use_dora" in settings else "lora")
    assert_same_vectors(model, embedder)
    embedder.save(tmp_path / "saved")
    assert np.array_equal(Embedder.load(tmp_path / "saved").encode(TEXTS), embedder.encode(TEXTS))


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"trained": True, "lora_alpha": 1e-30}])
def test_an_adapter_that_changes_no_vector_is_refused(
    tiny_path: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    made(tiny_path, tmp_path, **{"trained": False, **settings})
    with pytest.raises(InputError, match="fits the model but changes no vector") as error:
        opened(tiny_path, tmp_path, "dora" if "use_dora" in settings else "lora")
    assert str(error.value).startswith(f"adapter.path: the adapter in {str(tmp_path)!r} ")


def test_an_own_adapter_that_was_never_trained_still_loads(tiny_path: Path, tmp_path: Path) -> None:
    spec = ModelSpec(str(tiny_path), dtype="float32")
    embedder = Embedder.from_pretrained(spec, adapter=AdapterSpec("lora", r=4))
    embedder.save(tmp_path)
    assert np.array_equal(Embedder.load(tmp_path).encode(TEXTS), embedder.encode(TEXTS))


def test_what_is_trained_beside_the_blocks_is_left_over(tiny_path: Path, tmp_path: Path) -> None:
    made(tiny_path, tmp_path, modules_to_save=["lm_head"])
    with pytest.raises(InputError, match=r"\(1 weight is left over, such as base_model\.model\.lm_head\.weight\)"):
        opened(tiny_path, tmp_path)


def test_an_adapter_of_a_deeper_model_is_refused(make_decoder: MakeDecoder, tmp_path: Path) -> None:
    base = make_decoder("llama")
    made(base, tmp_path)
    sentence = r"trained on '.*', does not fit the model '.*' \(12 weights are left over, such as .*layers\.2\."
    with pytest.raises(InputError, match=sentence):
        opened(base, tmp_path, layers=2)


def test_an_adapter_of_a_wider_model_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    made(tiny_path, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({name: weight.repeat(1, 2) for name, weight in load_file(file).items()}, file)
    sentence = r"12 weights are of another shape, such as .*layers\.0\.\S+ with \[\d+, \d+\], not \[\d+, \d+\]\)$"
    with pytest.raises(InputError, match=sentence):
        opened(tiny_path, tmp_path)


def test_an_adapter_of_two_models_in_one_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    made(tiny_path, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    twice = {name.replace(".model.model.", ".model.vision."): weight.clone() for name, weight in weights.items()}
    save_file(weights | twice, file)
    sentence = re.escape("(it adapts more than one list of blocks: 'model.', 'vision.')")
    with pytest.raises(InputError, match=sentence):
        opened(tiny_path, tmp_path)


def test_a_folder_with_an_adapter_alone_is_no_model(tiny_path: Path, tmp_path: Path) -> None:
    made(tiny_path, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"
    with pytest.raises(InputError, match=r"holds an adapter and no model; give it as adapter\.path, and the model"):
        Embedder.load(tmp_path)
