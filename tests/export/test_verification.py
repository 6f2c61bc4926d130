"""The checks see what is wrong with a folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from embedllm.errors import InputError
from embedllm.export import verify
from embedllm.export.verification import compare


@pytest.fixture
def damaged(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def failed(folder: Path) -> list[str]:
    return [check.name for check in verify(folder).failures]


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_export_passes_and_can_be_moved(damaged: Path) -> None:
    report = verify(damaged)
    assert report.ok
    assert [check.name for check in report.checks] == [
        "no chat template",
        "load",
        "modality",
        "token ids",
        "vectors, one batch",
        "vectors, one by one",
    ]


def test_other_weights_are_seen(damaged: Path) -> None:
    state = load_file(damaged / "model.safetensors")
    name = next(name for name in state if "layers.3.mlp.up_proj" in name)
    state[name] = state[name] * 1.1
    save_file(state, damaged / "model.safetensors", metadata={"format": "pt"})
    assert failed(damaged) == ["vectors, one batch", "vectors, one by one"]


def test_another_head_is_seen(damaged: Path) -> None:
    change_json(
        damaged / "1_Pooling" / "config.json",
        lambda config: config.update(pooling_mode_mean_tokens=False, pooling_mode_lasttoken=True),
    )
    assert failed(damaged) == ["vectors, one batch", "vectors, one by one"]


def test_a_missing_normalisation_is_seen(damaged: Path) -> None:
    change_json(damaged / "modules.json", lambda modules: modules.pop())
    assert failed(damaged) == ["vectors, one batch", "vectors, one by one"]


def test_a_lost_prompt_is_seen(damaged: Path) -> None:
    change_json(damaged / "tokenizer.json", lambda tokenizer: tokenizer.update(post_processor=None))
    assert failed(damaged) == ["token ids", "vectors, one batch", "vectors, one by one"]


def test_a_chat_template_is_seen(damaged: Path) -> None:
    (damaged / "chat_template.jinja").write_text("{{ messages }}")
    assert "no chat template" in failed(damaged)


def test_a_chat_template_that_is_applied_is_seen(damaged: Path) -> None:
    template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    (damaged / "chat_template.jinja").write_text(template)
    call = {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"}
    config = {"modality_config": {"message": call}, "module_output_name": "token_embeddings"}
    change_json(damaged / "sentence_bert_config.json", lambda content: content.update(config))
    assert {"no chat template", "modality"} <= set(failed(damaged))


def test_missing_weights_are_a_failed_load(damaged: Path) -> None:
    (damaged / "model.safetensors").unlink()
    assert failed(damaged) == ["load"]


def test_a_folder_that_is_no_export(tmp_path: Path, damaged: Path) -> None:
    with pytest.raises(InputError, match=r"DIR: no folder '.*nowhere'"):
        verify(tmp_path / "nowhere")
    (damaged / "embedllm_reference.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged; export again"):
        verify(damaged)
    (damaged / "embedllm_reference.json").unlink()
    with pytest.raises(InputError, match="has no embedllm_reference.json"):
        verify(damaged)


@pytest.mark.parametrize("row", [[0.999, 0.04, 0.0], [2.0, 0.0, 0.0], [float("nan"), 0.0, 0.0], [0.0, 0.0, 0.0]])
def test_a_turned_a_stretched_and_a_broken_vector_fail(row: list[float]) -> None:
    expected = np.array([[1, 0, 0], [1, 0, 0]], dtype=np.float32)
    found = np.array([[1, 0, 0], row], dtype=np.float32)
    assert not compare("x", found, expected, "float32").passed
    assert compare("x", expected, expected, "float32").passed


def test_half_precision_is_held_to_less() -> None:
    expected = np.array([[1, 0]], dtype=np.float32)
    found = np.array([[np.cos(0.03), np.sin(0.03)]], dtype=np.float32)  # cosine 0.99955
    assert compare("x", found, expected, "bfloat16").passed
    assert not compare("x", found, expected, "float32").passed


def test_a_wrong_width_fails() -> None:
    assert not compare("x", np.ones((1, 4), np.float32), np.ones((1, 2), np.float32), "float32").passed
