"""What a run's id depends on: the content of the files that the settings name."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedllm import Embedder, recipe
from embedllm.adapter import AdapterSpec
from embedllm.recipe import identified

PLAIN: dict[str, Any] = {
    "model": {"name": "embedded:tiny"},
    "adapter": {"kind": "lora", "path": None},
    "trainer": {"max_steps": 0},
}


@pytest.fixture(autouse=True)
def no_cache() -> Iterator[None]:
    recipe._model_identity.cache_clear()
    yield
    recipe._model_identity.cache_clear()


def model_identity(name: Path | str) -> str:
    recipe._model_identity.cache_clear()
    return str(identified({**PLAIN, "model": {"name": str(name)}})["model"]["name"])


def adapter_identity(folder: Path) -> Any:
    return identified({**PLAIN, "adapter": {"kind": "lora", "path": str(folder)}})["adapter"]["path"]


@pytest.fixture
def saved(tiny_path: Path, tmp_path: Path) -> Path:
    Embedder.from_pretrained(str(tiny_path), adapter=AdapterSpec("lora", r=4)).save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", ["embedded:tiny", "org/decoder"])
def test_a_model_that_is_no_folder_is_its_name(name: str) -> None:
    assert model_identity(name) == name


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_each_file_of_a_models_folder_counts(tiny_path: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "decoder")
    before = model_identity(folder)
    assert before == model_identity(tiny_path)
    with (folder / file).open("ab") as handle:
        handle.write(b" ")
    assert model_identity(folder) != before


@pytest.mark.parametrize(
    "file", ["special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"]
)
def test_a_file_of_the_tokenizer_that_is_new_counts(tiny_path: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "decoder")
    before = model_identity(folder)
    (folder / file).write_text("{}")
    assert model_identity(folder) != before


def test_a_file_beside_the_model_does_not_count(tiny_path: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "decoder")
    (folder / "README.md").write_text("about")
    assert model_identity(folder) == model_identity(tiny_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("r", 8),
        ("lora_alpha", 3),
        ("use_rslora", True),
        ("use_dora", True),
        ("target_modules", ["q_proj"]),
        ("rank_pattern", {"q_proj": 2}),
        ("alpha_pattern", {"q_proj": 2}),
    ],
)
def test_the_settings_of_an_adapter_count(saved: Path, setting: str, value: Any) -> None:
    before = adapter_identity(saved)
    config = saved / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), setting: value}))
    assert adapter_identity(saved) != before


def test_where_an_adapter_and_its_base_lie_does_not_count(saved: Path, tmp_path: Path) -> None:
    before = adapter_identity(saved)
    moved = saved.rename(tmp_path / "moved")
    config = moved / "adapter" / "adapter_config.json"
    settings = {**json.loads(config.read_text()), "base_model_name_or_path": "/elsewhere", "peft_version": "99"}
    config.write_text(json.dumps(settings, indent=1))
    assert adapter_identity(moved) == before


def test_fully_trained_weights_are_their_files(tiny_path: Path, tmp_path: Path) -> None:
    Embedder.from_pretrained(str(tiny_path), adapter=AdapterSpec("full")).save(tmp_path)
    before = adapter_identity(tmp_path)
    assert len(before) == 1
    (tmp_path / "backbone" / "config.json").write_text("{}")
    assert adapter_identity(tmp_path) == before
