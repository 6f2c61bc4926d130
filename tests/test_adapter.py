"""Adapters: what is trained, what a step changes, and that saving, loading and merging keep every vector."""

import copy
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from transformers import AutoModel

from embedllm import Embedder, ModelSpec, adapter_spec, backbone, embedder
from embedllm.adapter import (
    AdapterSpec,
    attach_adapter,
    check_adapter,
    merged,
    quantization_config,
    resolve_adapter,
    save_adapter,
    trainable_parameters,
    training_casts,
)
from embedllm.adapter_spec import same_model
from embedllm.backbone import blocks, load_backbone, load_config
from embedllm.config import config_dir
from embedllm.errors import InputError
from embedllm.pooling import AttentionPooling, LastTokenPooling

FAMILIES = ["llama", "qwen3", "gemma3", "gpt2"]
LINEAR = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
}
DEPTH = 4
ANCHORS = ["a man is driving a car", "the bank raised its rate", "nobody paints rivers", "soup"]
POSITIVES = ["somebody drives", "interest rates went up at the bank", "a river without a painter", "a hot broth"]
TEXTS = [*ANCHORS, *POSITIVES, "", "It ends here."]
PEFT_KINDS = ["lora", "dora"]
MakeDecoder = Callable[[str], Path]


def adapted(path: Path, adapter: AdapterSpec, **model: Any) -> Embedder:
    spec = ModelSpec(str(path), dtype="float32", max_length=64)
    return Embedder.from_pretrained(
        replace(spec, **model), template='"{text}" means:', head=LastTokenPooling, adapter=adapter
    )


def small(kind: str, **settings: Any) -> AdapterSpec:
    return AdapterSpec(kind, r=4, alpha=8, **settings)


def infonce(model: Embedder) -> Tensor:
    anchors, positives = (model(*model.collate(model.tokenize(texts))) for texts in (ANCHORS, POSITIVES))
    return cross_entropy(anchors @ positives.T / 0.1, torch.arange(len(anchors)))


def step(model: Embedder, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    infonce(model).backward()
    optimizer.step()


def trained(model: Embedder, steps: int = 3, lr: float = 0.02) -> Embedder:
    """Train with dropout, as a run does, and leave the model in eval mode."""
    optimizer = torch.optim.AdamW([parameter for _, parameter in trainable_parameters(model.backbone)], lr=lr)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(steps):
            step(model, optimizer)
    return model.eval()


def hidden(model: nn.Module) -> Tensor:
    ids = torch.arange(5, 35).reshape(2, 15)
    with torch.inference_mode():
        states: Tensor = model(input_ids=ids, use_cache=False).last_hidden_state
    return states.float()


def cosine(a: nn.Module, b: nn.Module) -> float:
    return float(cosine_similarity(hidden(a), hidden(b), dim=-1).min())


def lora_paths(model: nn.Module) -> set[str]:
    names = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    return {name.removeprefix("base_model.model.") for name in names}


# --- what is trained ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, 1, 3])
@pytest.mark.parametrize("family", sorted(LINEAR))
def test_adapters_are_on_all_linear_layers_of_the_top_blocks(
    make_decoder: MakeDecoder, family: str, layers: int | None
) -> None:
    model = adapted(make_decoder(family), small("lora", layers=layers)).backbone
    found = lora_paths(model)
    top = range(DEPTH - (layers or DEPTH), DEPTH)
    assert {int(path.split(".")[1]) for path in found} == set(top)
    expected = {name: f".{name}" for name in LINEAR[family]}
    assert all(any(path.endswith(end) for end in expected.values()) for path in found)
    assert len(found) == len(top) * len(expected)


def test_the_top_layers_are_those_of_a_shortened_backbone(make_decoder: MakeDecoder) -> None:
    model = adapted(make_decoder("llama"), small("lora", layers=1), layers=2).backbone
    assert {path.split(".")[1] for path in lora_paths(model)} == {"1"}


@pytest.mark.parametrize("names", [["k_proj"], ["mlp.up_proj", "q_proj"]])
def test_target_modules_pick_layers(make_decoder: MakeDecoder, names: list[str]) -> None:
    found = lora_paths(adapted(make_decoder("llama"), small("lora", target_modules=names)).backbone)
    assert len(found) == DEPTH * len(names)
    assert all(path.endswith(tuple(f".{name}" for name in names)) for path in found)


@pytest.mark.parametrize("kind", PEFT_KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_are_float32_and_the_only_trainable_weights(tiny_path: Path, kind: str, dtype: torch.dtype) -> None:
    base = load_backbone(str(tiny_path), dtype="float32").to(dtype)
    model = attach_adapter(base, small(kind), seed=0)
    names, weights = zip(*trainable_parameters(model), strict=True)
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert all("lora_" in name for name in names)
    assert {weight.dtype for name, weight in model.named_parameters() if "lora_" not in name} == {dtype}


def test_none_freezes_everything(tiny_path: Path) -> None:
    assert trainable_parameters(adapted(tiny_path, AdapterSpec()).backbone) == []


def test_full_trains_everything_in_float32(tiny_path: Path) -> None:
    base = load_backbone(str(tiny_path), dtype="float32").bfloat16()
    model = attach_adapter(base, AdapterSpec("full"), seed=0)
    assert len(trainable_parameters(model)) == len(list(model.parameters()))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_full_with_layers_trains_the_top_blocks_alone(make_decoder: MakeDecoder) -> None:
    model = adapted(make_decoder("gpt2"), AdapterSpec("full", layers=2)).backbone
    ours = {id(weight) for block in blocks(model)[-2:] for weight in block.parameters()}
    assert {id(weight) for _, weight in trainable_parameters(model)} == ours


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", PEFT_KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_changes_no_vector(make_decoder: MakeDecoder, family: str, kind: str) -> None:
    path = make_decoder(family)
    plain = adapted(path, AdapterSpec()).encode(TEXTS)
    np.testing.assert_allclose(adapted(path, small(kind)).encode(TEXTS), plain, atol=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_is_kept(tiny_path: Path, mode: bool) -> None:
    model = attach_adapter(load_backbone(str(tiny_path)).train(mode), small("lora"), seed=0)
    assert {module.training for module in model.modules()} == {mode}


def test_initial_weights_depend_on_the_seed_alone(tiny_path: Path) -> None:
    def weights(seed: int, noise: int) -> Tensor:
        base = load_backbone(str(tiny_path), dtype="float32")
        torch.manual_seed(noise)
        model = attach_adapter(base, small("lora"), seed=seed)
        return torch.cat([weight.flatten() for _, weight in trainable_parameters(model)])

    assert torch.equal(weights(1, noise=1), weights(1, noise=2))
    assert not torch.equal(weights(1, noise=1), weights(2, noise=1))


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_the_global_random_state_is_left_alone(tiny_path: Path, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    model = trained(adapted(tiny_path, small(kind) if kind != "full" else AdapterSpec("full")))
    model.save(tmp_path)
    Embedder.load(tmp_path)
    merged(model.backbone)
    adapted(tiny_path, replace(model.adapter, path=str(tmp_path)))
    assert torch.equal(torch.get_rng_state(), before)


# --- a training step ---------------------------------------------------------------------------------------------


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_reaches_every_trainable_tensor_and_moves_the_vectors(
    make_decoder: MakeDecoder, family: str, kind: str
) -> None:
    model = adapted(make_decoder(family), small(kind) if kind != "full" else AdapterSpec("full"))
    before = model.encode(TEXTS)
    optimizer = torch.optim.AdamW([weight for _, weight in trainable_parameters(model.backbone)], lr=1e-2)
    model.train()
    step(model, optimizer)
    for name, weight in trainable_parameters(model.backbone):
        assert weight.grad is not None, name
        assert bool(weight.grad.any()) != ("lora_A" in name), name  # B starts at zero, so A has no gradient yet
    moved = np.abs(model.eval().encode(TEXTS) - before).max(axis=1)
    assert (moved > 1e-4).all()
    optimizer.zero_grad()
    infonce(model).backward()
    assert all(weight.grad is not None and weight.grad.any() for _, weight in trainable_parameters(model.backbone))


def test_training_lowers_the_loss_and_leaves_frozen_weights_alone(tiny_path: Path) -> None:
    model = adapted(tiny_path, small("lora", dropout=0.0))
    frozen = {name: weight.clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    before = infonce(model).item()
    trained(model, steps=20, lr=5e-3)
    assert infonce(model).item() < before / 2
    assert all(torch.equal(weight, frozen[name]) for name, weight in model.named_parameters() if name in frozen)


def test_dropout_is_on_in_training_alone(tiny_path: Path) -> None:
    model = trained(adapted(tiny_path, small("lora", dropout=0.5)))
    assert torch.equal(hidden(model.backbone), hidden(model.backbone))
    model.train()
    assert not torch.equal(hidden(model.backbone), hidden(model.backbone))


def test_no_gradient_runs_below_the_lowest_adapter(make_decoder: MakeDecoder) -> None:
    model = adapted(make_decoder("llama"), small("lora", layers=1))
    needs_graph = []
    for block in blocks(model.backbone):
        block.register_forward_hook(lambda _module, _args, output: needs_graph.append(output.requires_grad))
    infonce(model)
    assert needs_graph == [False, False, False, True] * 2


# --- precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PEFT_KINDS)
@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_autocast_without_peft_casts_gives_the_same_values(tiny_path: Path, kind: str, base: torch.dtype) -> None:
    model = trained(adapted(tiny_path, small(kind)))
    exact = model.encode(TEXTS)
    for name, weight in model.backbone.named_parameters():
        weight.data = weight.data if "lora_" in name else weight.data.to(base)
    with torch.autocast("cpu", torch.bfloat16), training_casts(model.backbone, torch.bfloat16):
        vectors = model.encode(TEXTS)
        model.zero_grad()
        infonce(model).backward()
    np.testing.assert_allclose(vectors, exact, atol=2e-2)
    assert (vectors * exact).sum(axis=1).min() > 0.999
    gradients = {name: weight.grad for name, weight in trainable_parameters(model.backbone)}
    assert all(grad is not None and grad.dtype == torch.float32 for grad in gradients.values())
    assert all(bool(grad.any()) for name, grad in gradients.items() if grad is not None and "lora_B" in name)


@pytest.mark.parametrize(("autocast", "seen"), [(torch.bfloat16, torch.bfloat16), (None, torch.float32)])
def test_training_casts_spare_the_upcast_of_activations(
    tiny_path: Path, autocast: torch.dtype | None, seen: torch.dtype
) -> None:
    model = adapted(tiny_path, small("dora", dropout=0.1))
    model.backbone.bfloat16().train()
    for _, weight in trainable_parameters(model.backbone):
        weight.data = weight.data.float()
    inputs = set()
    for name, module in model.backbone.named_modules():
        if name.endswith("lora_dropout.default"):
            module.register_forward_pre_hook(lambda _module, args: inputs.add(args[0].dtype))
    scope = nullcontext() if autocast is None else torch.autocast("cpu", autocast)
    with scope, training_casts(model.backbone, autocast):
        hidden(model.backbone)
    assert inputs == {seen}


def test_training_casts_end_with_their_block_and_suit_any_model(tiny_path: Path) -> None:
    for kind in ("none", "lora"):
        model = adapted(tiny_path, AdapterSpec(kind)).backbone
        with training_casts(model, torch.bfloat16):
            pass
        layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
        assert all(layer.cast_input_dtype_enabled for layer in layers)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["lora", "dora", "full", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_gives_the_same_vectors_and_leaves_the_model_alone(
    make_decoder: MakeDecoder, family: str, kind: str, tmp_path: Path
) -> None:
    model = adapted(make_decoder(family), AdapterSpec(kind))
    if kind != "none":
        trained(model)
    state = copy.deepcopy(model.backbone.state_dict())
    plain = merged(model.backbone)
    assert not isinstance(plain, PeftModel)
    assert cosine(plain, model.backbone) >= 0.99999
    assert all(torch.equal(weight, state[name]) for name, weight in model.backbone.state_dict().items())
    plain.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(hidden(again), hidden(plain))


@pytest.mark.parametrize("kind", PEFT_KINDS)
def test_an_adapter_on_bfloat16_is_merged_in_float32(make_decoder: MakeDecoder, kind: str) -> None:
    base = load_backbone(str(make_decoder("llama")), dtype="float32").bfloat16()
    model = attach_adapter(base, small(kind), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, weight in trainable_parameters(model):
        if "lora_B" in name:
            weight.data = 2e-3 * torch.randn(weight.shape, generator=generator)
    plain = merged(model)
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    assert cosine(plain, model) >= 0.999
    exact = copy.deepcopy(model).float()
    assert cosine(plain, exact) >= 0.99999  # merged into bfloat16 weights, updates this small are mostly rounded away


def test_quantized_weights_are_dequantized_before_the_merge(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(adapted(tiny_path, small("lora"))).backbone
    kind = type(model.get_base_model())
    monkeypatch.setattr(kind, "is_quantized", True, raising=False)
    called = []

    def dequantize(self: Any) -> Any:
        called.append(lora_paths(self))
        self.is_quantized = False
        return self

    monkeypatch.setattr(kind, "dequantize", dequantize)
    assert cosine(merged(model), model) >= 0.99999
    assert called == [set()]


# --- on disk -----------------------------------------------------------------------------------------------------

SAVED = [
    AdapterSpec("lora"),
    AdapterSpec("lora", layers=2, target_modules=None, dropout=0.3),
    AdapterSpec("dora", r=4),
    AdapterSpec("full"),
    AdapterSpec("full", layers=1),
]


@pytest.mark.thinned(5)
@pytest.mark.parametrize("spec", SAVED, ids=lambda spec: f"{spec.kind}-{spec.layers}")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_gives_bit_equal_vectors(
    make_decoder: MakeDecoder, tmp_path: Path, family: str, spec: AdapterSpec
) -> None:
    model = adapted(make_decoder(family), spec)
    untrained = model.encode(TEXTS)
    trained(model)
    vectors = model.encode(TEXTS)
    assert np.abs(vectors - untrained).max() > 1e-2
    model.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path)
    assert np.array_equal(loaded.encode(TEXTS), vectors)
    assert loaded.adapter == spec
    assert trainable_parameters(loaded.backbone) == []
    assert not any(module.training for module in loaded.modules())
    loaded.save(tmp_path / "again")
    assert np.array_equal(Embedder.load(tmp_path / "again").encode(TEXTS), vectors)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize(
    "model", [{"layers": 2}, {"layers": 3, "final_norm": False}, {"attention": "bidirectional"}], ids=str
)
def test_a_changed_backbone_is_saved_too(
    make_decoder: MakeDecoder, tmp_path: Path, kind: str, model: dict[str, Any]
) -> None:
    tuned = trained(adapted(make_decoder("qwen3"), AdapterSpec(kind), **model))
    tuned.save(tmp_path)
    assert np.array_equal(Embedder.load(tmp_path).encode(TEXTS), tuned.encode(TEXTS))


def test_a_saved_adapter_is_small_and_without_pickle_or_card(make_decoder: MakeDecoder, tmp_path: Path) -> None:
    source = make_decoder("llama")
    model = Embedder.from_pretrained(
        ModelSpec(str(source), max_length=64),
        head=AttentionPooling,
        adapter=AdapterSpec("lora", r=1, target_modules=["q_proj"]),
    )
    model.save(tmp_path)
    files = {str(path.relative_to(tmp_path)): path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    weights = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "head.safetensors"}
    assert set(files) == weights | {"embedllm.json", "tokenizer.json", "tokenizer_config.json"}
    assert sum(files[name] for name in weights) < (source / "model.safetensors").stat().st_size / 10
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(source.resolve())
    assert settings["task_type"] == "FEATURE_EXTRACTION"


def test_the_base_of_a_saved_adapter_is_named_as_it_lasts(tiny_path: Path, tmp_path: Path) -> None:
    model = Embedder.from_pretrained("embedded:tiny", adapter=small("lora"))
    model.save(tmp_path)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "embedded:tiny"


def test_equal_adapters_give_equal_files(tiny_path: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        adapted(tiny_path, small("lora")).save(tmp_path / folder)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / "adapter" / file).read_bytes() == (tmp_path / "b" / "adapter" / file).read_bytes()
    targets = json.loads((tmp_path / "a" / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)


def test_peft_itself_loads_a_saved_adapter(make_decoder: MakeDecoder, tmp_path: Path) -> None:
    model = trained(adapted(make_decoder("qwen3"), small("dora", layers=3)))
    model.save(tmp_path)
    base = AutoModel.from_pretrained(make_decoder("qwen3"), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(hidden(loaded), hidden(model.backbone))


def test_fully_trained_weights_are_a_model_of_their_own(make_decoder: MakeDecoder, tmp_path: Path) -> None:
    model = trained(adapted(make_decoder("llama"), AdapterSpec("full")))
    model.save(tmp_path)
    assert {path.name for path in (tmp_path / "backbone").iterdir()} == {"config.json", "model.safetensors"}
    loaded = AutoModel.from_pretrained(tmp_path / "backbone")
    assert loaded.dtype == torch.float32
    assert torch.equal(hidden(loaded), hidden(model.backbone))


def test_a_sharded_backbone_is_read_in_full(
    make_decoder: MakeDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm import adapter_files

    save = adapter_files.save_torch_state_dict
    monkeypatch.setattr(
        adapter_files, "save_torch_state_dict", lambda state, folder: save(state, folder, max_shard_size=50_000)
    )
    model = trained(adapted(make_decoder("llama"), AdapterSpec("full")))
    model.save(tmp_path)
    assert len(list((tmp_path / "backbone").glob("*.safetensors"))) > 1
    assert np.array_equal(Embedder.load(tmp_path).encode(TEXTS), model.encode(TEXTS))
    index = json.loads((tmp_path / "backbone" / "model.safetensors.index.json").read_text())
    first = tmp_path / "backbone" / index["weight_map"]["norm.weight"]
    save_file({name: value for name, value in load_file(first).items() if name != "norm.weight"}, first)
    with pytest.raises(InputError, match="does not fit the model"):
        Embedder.load(tmp_path)


def test_saving_again_replaces_what_was_there(tiny_path: Path, tmp_path: Path) -> None:
    trained(adapted(tiny_path, AdapterSpec("full"))).save(tmp_path)
    model = trained(adapted(tiny_path, small("lora")))
    model.save(tmp_path)
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["adapter"]
    assert np.array_equal(Embedder.load(tmp_path).encode(TEXTS), model.encode(TEXTS))


def test_a_save_that_fails_leaves_the_old_adapter(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm import lora

    model = adapted(tiny_path, small("lora"))
    save_adapter(model.backbone, tmp_path, base="base")
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}

    def fail(*_args: Any, **_settings: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(lora, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_adapter(trained(model).backbone, tmp_path, base="other")
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_bidirectional_attention_is_checked_with_the_adapter_on(
    make_decoder: MakeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_causal(model: Any, *_args: Any, **_settings: Any) -> Any:
        model.config.is_causal = True
        return model

    monkeypatch.setattr(embedder, "attach_adapter", to_causal)
    with pytest.raises(InputError, match=r"model\.attention: 'bidirectional' is lost"):
        adapted(make_decoder("qwen3"), small("lora"), attention="bidirectional")


# --- going on from a path ----------------------------------------------------------------------------------------


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
@pytest.mark.parametrize("where", [".", "model", "model/adapter"])
def test_training_goes_on_from_a_run_a_model_or_a_peft_folder(
    tiny_path: Path, tmp_path: Path, kind: str, where: str
) -> None:
    model = trained(adapted(tiny_path, AdapterSpec(kind, r=3, alpha=7, layers=1)))
    model.save(tmp_path / "model")
    path = str(tmp_path / (where if kind != "full" else where.replace("adapter", "backbone")))
    again = adapted(tiny_path, AdapterSpec(kind, path=path, dropout=0.25))
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))
    if kind == "full":
        return
    assert (again.adapter.r, again.adapter.alpha, again.adapter.dropout) == (3, 7, 0.25)
    assert {name for name, _ in trainable_parameters(again.backbone)} == {
        name for name, _ in trainable_parameters(model.backbone)
    }
    assert {module.p for module in again.backbone.modules() if isinstance(module, nn.Dropout)} == {0.25}
    assert not np.array_equal(trained(again).encode(TEXTS), model.encode(TEXTS))


def test_the_rank_of_the_path_wins_and_is_logged(
    tiny_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapted(tiny_path, AdapterSpec("lora", r=3, alpha=7)).save(tmp_path)
    with caplog.at_level(logging.INFO, logger="embedllm"):
        spec = resolve_adapter(AdapterSpec("lora", r=64, path=str(tmp_path)))
    assert (spec.r, spec.alpha) == (3, 7)
    assert "with r 3 and alpha 7, which replace adapter.r and adapter.alpha" in caplog.text


def test_an_adapter_of_another_base_is_refused(
    make_decoder: MakeDecoder, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted(make_decoder("llama"), small("lora")).save(tmp_path)
    monkeypatch.setattr(embedder, "load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(InputError, match=r"adapter\.path: .*/adapter', trained on '.*llama0', does not fit") as error:
        adapted(tiny_path, AdapterSpec("lora", path=str(tmp_path)))
    assert "does not fit the model 'embedded:tiny' (" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="does not fit the model"):
        adapted(make_decoder("gpt2"), AdapterSpec("lora", path=str(tmp_path)))


def other_weights(folder: Path, target: Path) -> Path:
    """Copy a decoder, its weights doubled."""
    shutil.copytree(folder, target)
    state = {name: 2 * tensor for name, tensor in load_file(target / "model.safetensors").items()}
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_an_adapter_of_a_base_of_equal_shape_is_refused(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted(other_weights(tiny_path, tmp_path / "other"), small("lora")).save(tmp_path / "saved")
    monkeypatch.setattr(embedder, "load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(InputError) as error:
        adapted(tiny_path, AdapterSpec("lora", path=str(tmp_path / "saved")))
    sentence = f"was trained on '{tmp_path / 'other'}', whose weights are not those of model.name 'embedded:tiny'; use "
    assert sentence in str(error.value)
    assert str(error.value).startswith("adapter.path: ")


def test_a_copy_of_the_base_is_the_base(tiny_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(tiny_path, tmp_path / "copy")
    trained(adapted(tiny_path, small("lora"))).save(tmp_path / "saved")
    adapted(tmp_path / "copy", AdapterSpec("lora", path=str(tmp_path / "saved")))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("base", ["org/decoder", "/gone/decoder", None])
def test_a_base_that_cannot_be_compared_is_a_warning(
    tiny_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, base: str | None
) -> None:
    trained(adapted(tiny_path, small("lora"))).save(tmp_path)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
    with caplog.at_level(logging.WARNING, logger="embedllm"):
        adapted(tiny_path, AdapterSpec("lora", path=str(tmp_path)))
    known = base or "a model that it does not name"
    assert f"was trained on {known}; that embedded:tiny is the same cannot be told" in caplog.text


def test_names_of_models_are_compared_by_what_they_hold(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = other_weights(tiny_path, tmp_path / "other")
    snapshot = shutil.copytree(tiny_path, tmp_path / "snapshot")
    fetched = str(snapshot / "config.json")
    monkeypatch.setattr(
        adapter_spec, "try_to_load_from_cache", lambda name, _file: fetched if name == "org/decoder" else None
    )
    assert same_model("org/decoder", str(tiny_path)) is True
    assert same_model("org/decoder", str(other)) is False
    assert same_model("org/unfetched", str(tiny_path)) is None
    assert same_model("org/unfetched", "org/unfetched") is True
    assert same_model("embedded:tiny", str(tiny_path)) is True
    assert same_model("embedded:tiny", "embedded:smollm2_135m") is False
    (tmp_path / "decoder.gguf").write_bytes(b"GGUF")
    assert same_model(str(tmp_path / "decoder.gguf"), str(tiny_path)) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_weights_that_are_not_finite_are_named(tiny_path: Path, tmp_path: Path, kind: str, value: float) -> None:
    adapted(tiny_path, AdapterSpec(kind, r=4)).save(tmp_path)
    (file,) = tmp_path.glob("*/*.safetensors")
    weights = load_file(file)
    name = max(weights)
    weights[name].view(-1)[-1] = value
    save_file(weights, file)
    sentence = re.escape(f"adapter.path: {str(file)!r} holds NaN or infinity in {name!r}")
    with pytest.raises(InputError, match=sentence):
        Embedder.load(tmp_path)
    with pytest.raises(InputError, match=sentence):
        adapted(tiny_path, AdapterSpec(kind, path=str(tmp_path)))


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_files_have_the_mode_that_the_umask_gives(tiny_path: Path, tmp_path: Path, kind: str) -> None:
    spec = ModelSpec(str(tiny_path), dtype="float32")
    model = Embedder.from_pretrained(spec, head=AttentionPooling, adapter=AdapterSpec(kind, r=4))
    model.centre()
    umask = os.umask(0o027)
    try:
        model.save(tmp_path)
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert len([name for name in modes if name.endswith(".safetensors")]) == 3
    assert set(modes.values()) == {0o640}


def test_fully_trained_weights_of_another_base_are_refused(
    make_decoder: MakeDecoder, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted(make_decoder("llama"), AdapterSpec("full")).save(tmp_path)
    monkeypatch.setattr(embedder, "load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(
        InputError, match=r"adapter\.path: .*/backbone' does not fit the model 'embedded:tiny' \("
    ) as error:
        adapted(tiny_path, AdapterSpec("full", path=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("drop", "1 weight is missing, such as base_model.model.layers.0."),
        ("add", "1 weight is left over, such as base_model.model.lm_head.lora_A.weight)"),
        ("reshape", "1 weight is of another shape, such as base_model.model.layers.0."),
    ],
)
def test_every_key_and_shape_must_match(tiny_path: Path, tmp_path: Path, change: str, sentence: str) -> None:
    adapted(tiny_path, small("lora")).save(tmp_path)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    changed = {
        "drop": {key: value for key, value in weights.items() if key != name},
        "add": weights | {"base_model.model.lm_head.lora_A.weight": torch.ones(2, 2)},
        "reshape": weights | {name: weights[name][:1].clone()},
    }
    save_file(changed[change], file)
    with pytest.raises(InputError, match=re.escape(sentence)):
        Embedder.load(tmp_path)


# --- settings ----------------------------------------------------------------------------------------------------

WRONG = [
    ({"kind": "lroa"}, "adapter.kind: 'lroa' is not one of: none, lora, dora, qlora, full"),
    ({"r": 0}, "adapter.r: 0 is not possible; the lowest value is 1"),
    ({"alpha": -1}, "adapter.alpha: -1 is not possible; it must be above 0"),
    ({"dropout": 1.0}, "adapter.dropout: 1.0 is not possible; allowed is 0 to below 1"),
    ({"layers": 99}, "adapter.layers: 99 does not fit the model; it has 2 layers (allowed 1 to 2)"),
    ({"layers": 0}, "adapter.layers: 0 does not fit the model; it has 2 layers (allowed 1 to 2)"),
    (
        {"target_modules": ["q_proj", "k_prj"]},
        "adapter.target_modules: 'k_prj' is no linear layer; the linear layers of a block are: "
        "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
    ),
    ({"target_modules": ["proj"]}, "adapter.target_modules: 'proj' is no linear layer"),
    ({"target_modules": []}, "adapter.target_modules: [] names no layer"),
    ({"path": "/nowhere"}, "adapter.path: no folder '/nowhere'"),
    ({"kind": "none", "path": "x"}, "adapter.path: 'x' has no effect with adapter.kind 'none'"),
    ({"kind": "none", "layers": 1}, "adapter.layers: 1 has no effect with adapter.kind 'none'"),
    (
        {"kind": "full", "target_modules": ["q_proj"]},
        "adapter.target_modules: ['q_proj'] has no effect with kind 'full'",
    ),
    ({"path": ".", "layers": 1}, "adapter.layers: 1 has no effect, as the adapter at adapter.path keeps its own"),
    ({"kind": "qlora"}, "adapter.kind: 'qlora' is not possible without a"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_settings_are_named_before_weights_load(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(embedder, "load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(InputError) as error:
        adapted(tiny_path, AdapterSpec(**{"kind": "lora", **settings}))
    assert str(error.value).startswith(sentence)


def test_layers_are_counted_in_a_shortened_backbone(tiny_path: Path) -> None:
    with pytest.raises(InputError, match="it has 1 layers"):
        adapted(tiny_path, small("lora", layers=2), layers=1)


def test_attaching_checks_the_names_by_itself(tiny_path: Path) -> None:
    with pytest.raises(InputError, match=r"adapter\.target_modules: 'k_prj'"):
        attach_adapter(load_backbone(str(tiny_path)), small("lora", target_modules=["q_proj", "k_prj"]), seed=0)


def test_paths_are_checked_for_what_they_hold(tiny_path: Path, tmp_path: Path) -> None:
    config = load_config(str(tiny_path))
    model = adapted(tiny_path, small("dora"))
    model.save(tmp_path / "dora")
    shutil.copytree(tmp_path / "dora", tmp_path / "pickle")
    (tmp_path / "pickle" / "adapter" / "adapter_model.safetensors").rename(
        tmp_path / "pickle" / "adapter" / "adapter_model.bin"
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("{")
    (tmp_path / "ia3").mkdir()
    (tmp_path / "ia3" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    wrong = {
        ("lora", tmp_path / "dora"): "adapter.kind: 'lora', but adapter.path",
        ("full", tmp_path / "dora"): "adapter.kind: 'full', but adapter.path",
        ("lora", tiny_path): "holds no adapter; give a run, a saved model or a PEFT folder",
        ("dora", tmp_path / "pickle"): "has adapter_model.bin, but only safetensors files are loaded",
        ("lora", tmp_path / "broken"): "cannot be read as JSON",
        ("lora", tmp_path / "ia3"): "holds an adapter of type 'IA3', not LoRA or DoRA",
    }
    for (kind, path), sentence in wrong.items():
        with pytest.raises(InputError) as error:
            check_adapter(AdapterSpec(kind, path=str(path)), config)
        assert sentence in str(error.value)
    check_adapter(AdapterSpec("dora", path=str(tmp_path / "dora")), config)


def test_qlora_says_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    from embedllm import adapter_spec

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(adapter_spec, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"adapter\.kind: 'qlora' .* without a bitsandbytes package; use 'lora'"):
        quantization_config(AdapterSpec("qlora"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="without a CUDA GPU and a bitsandbytes package"):
        quantization_config(AdapterSpec("qlora"))
    assert quantization_config(AdapterSpec("lora")) is None


def test_the_quantization_config_reaches_transformers(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(*_args: Any, **settings: Any) -> None:
        seen.update(settings)
        raise OSError("stop")

    monkeypatch.setattr(backbone.AutoModel, "from_pretrained", record)
    marker: Any = object()
    with pytest.raises(InputError, match="stop"):
        load_backbone(str(tiny_path), quantization_config=marker)
    assert seen["quantization_config"] is marker


@pytest.mark.parametrize("path", sorted((config_dir() / "adapter").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_is_a_spec_of_its_name(tiny_path: Path, path: Path) -> None:
    spec = AdapterSpec(**yaml.safe_load(path.read_text(encoding="utf-8")))
    assert spec.kind == path.stem
    assert replace(spec, kind="none") == AdapterSpec()  # the defaults are the paper's: r 64, alpha 16, dropout 0.05
    if spec.kind != "qlora":
        check_adapter(spec, load_config(str(tiny_path)))
