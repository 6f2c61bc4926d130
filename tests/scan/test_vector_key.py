"""The key of a variant: equal for equal vectors, another as soon as anything decides otherwise."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.blueprint import draw_up
from embedllm.errors import InputError
from embedllm.pooling import AttentionPooling, EosPooling, LastTokenPooling, MeanPooling, PoolingHead
from embedllm.scan.vector_key import depth_of, variant_key

CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'


@pytest.fixture
def folder(tiny_path: Path, tmp_path: Path) -> Path:
    """A model whose files may be changed."""
    return Path(shutil.copytree(tiny_path, tmp_path / "model"))


def key(folder: Path, **changes: Any) -> str:
    spec = ModelSpec(str(folder), dtype="float32", max_length=64)
    parts = {name: changes.pop(name) for name in ("template", "bos", "head", "adapter") if name in changes}
    return variant_key(draw_up(replace(spec, **changes), **parts))


CHANGES: dict[str, dict[str, Any]] = {
    "template": {"template": CLUSTER},
    "bos": {"bos": True},
    "max_length": {"max_length": 65},
    "dtype": {"dtype": "bfloat16"},
    "attention": {"attention": "bidirectional"},
    "layers": {"layers": 1},
    "final_norm": {"final_norm": False},
    "head": {"head": LastTokenPooling},
    "eos": {"head": EosPooling},
    "pool_over": {"head": partial(MeanPooling, pool_over="text")},
    "dora": {"adapter": AdapterSpec("dora")},
    "full": {"adapter": AdapterSpec("full")},
}


def test_every_setting_that_decides_a_vector_changes_the_key(folder: Path) -> None:
    keys = {name: key(folder, **changes) for name, changes in CHANGES.items()}
    assert len({key(folder), *keys.values()}) == len(CHANGES) + 1
    assert all(len(found) == 64 and set(found) <= set("0123456789abcdef") for found in keys.values())


SAME: dict[str, dict[str, Any]] = {
    "dtype": {"dtype": "auto"},
    "layers": {"layers": 2},
    "normalize": {"head": partial(MeanPooling, normalize=False)},
    "pool_over": {"head": partial(MeanPooling, pool_over="all")},
    "adapter": {"adapter": AdapterSpec("lora")},
}


@pytest.mark.parametrize("name", SAME)
def test_what_changes_no_vector_leaves_the_key(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm.backbone.has_fast_bfloat16", lambda: False)
    assert key(folder, **SAME[name]) == key(folder)


def test_a_new_lora_adapter_really_changes_no_vector(folder: Path) -> None:
    spec = ModelSpec(str(folder), dtype="float32")
    plain, adapted = Embedder.from_pretrained(spec), Embedder.from_pretrained(spec, adapter=AdapterSpec("lora"))
    assert abs(plain.encode(["a car"]) - adapted.encode(["a car"])).max() < 1e-6


def test_tokenizing_leaves_the_key(folder: Path) -> None:
    plan = draw_up(str(folder))
    before = variant_key(plan)
    plan.prompt.tokenizer(["a car", "a"], truncation=True, padding=True)
    variant_key.__globals__["prompt_facts"].cache_clear()
    assert variant_key(plan) == before


def test_the_place_of_a_model_does_not_count_but_its_weights_do(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert key(copied) == key(folder)
    weights = load_file(copied / "model.safetensors")
    name = min(weights)
    weights[name].view(-1)[0] += 1
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    os.utime(copied / "model.safetensors", ns=(1, 1))
    assert key(copied) != key(folder)


def test_the_config_counts(folder: Path) -> None:
    before = key(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    assert key(folder) != before


def test_a_hub_model_is_known_by_its_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = draw_up(str(folder))
    from embedllm.backbone import load_config

    config = load_config(str(folder))
    monkeypatch.setattr("embedllm.scan.vector_key.resolve_model", lambda name: name)
    monkeypatch.setattr("embedllm.scan.vector_key.load_config", lambda name: config)
    hub = replace(plan, spec=replace(plan.spec, name="owner/model"))
    with pytest.raises(InputError, match="commit of 'owner/model'"):
        variant_key(hub)
    keys = set()
    for commit in ("one", "two"):
        config._commit_hash = commit
        keys.add(variant_key(hub))
    assert len(keys) == 2


def test_trained_weights_count_by_their_content(folder: Path, tmp_path: Path) -> None:
    trained = Embedder.from_pretrained(str(folder), adapter=AdapterSpec("lora", r=2))
    for name in ("one", "two"):
        torch.manual_seed(len(name) if name == "one" else 7)
        for weight, parameter in trained.named_parameters():
            if "lora_B" in weight:
                nn.init.normal_(parameter)
        trained.save(tmp_path / name)
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    one, two, three = (
        key(folder, adapter=AdapterSpec("lora", path=str(tmp_path / name))) for name in ("one", "two", "three")
    )
    assert one == three
    assert len({one, two, key(folder)}) == 3


def test_the_weights_of_a_head_count(folder: Path) -> None:
    plan = draw_up(str(folder), head=AttentionPooling)
    before = variant_key(plan)
    nn.init.ones_(plan.head.query)
    assert variant_key(plan) != before


def test_the_code_of_a_head_counts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from embedllm.pooling import MeanPooling\n\n\nclass Own(MeanPooling):\n    scale = {}\n"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_heads.py").write_text(code.format(1))
    import own_heads  # type: ignore[import-not-found]

    before = key(folder, head=own_heads.Own)
    assert key(folder, head=own_heads.Own) == before
    (tmp_path / "own_heads.py").write_text(code.format(22))
    assert key(folder, head=own_heads.Own) != before


def test_a_head_without_a_file_is_refused(folder: Path) -> None:
    space: dict[str, Any] = {"MeanPooling": MeanPooling, "__name__": "nowhere"}
    exec("class Own(MeanPooling): pass", space)
    head: Callable[[int], PoolingHead] = space["Own"]
    with pytest.raises(InputError, match="pooling._target_: the code of 'Own' is in no file"):
        key(folder, head=head)


def test_versions_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(folder)
    monkeypatch.setattr("embedllm.scan.vector_key.version", lambda name: "0")
    assert key(folder) != before


def test_depth_of_a_model(tiny_path: Path) -> None:
    assert [depth_of(ModelSpec(str(tiny_path), layers=layers)) for layers in (None, 1, 2)] == [2, 1, 2]
