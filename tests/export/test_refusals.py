"""What is refused, in one sentence that names it, with nothing left behind."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from embedllm import Embedder
from embedllm.adapter import AdapterSpec
from embedllm.errors import InputError
from embedllm.export import VerificationError, VerifyReport, export, exportable, writer
from embedllm.export.folder import whole_folder
from embedllm.export.verification import Check
from embedllm.pooling import AttentionPooling, MeanPooling


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to make the test fail if weights are loaded from then on."""
    return lambda: monkeypatch.setattr(Embedder, "load", lambda *_: pytest.fail("weights were loaded"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head": AttentionPooling}, "pooling: 'AttentionPooling' has no sentence-transformers equivalent; use mean"),
        ({"head": partial(MeanPooling, pool_over="text")}, "pooling.pool_over: 'text' has no .* use all to export"),
        ({"head": partial(MeanPooling, pool_over="suffix")}, "pooling.pool_over: 'suffix' has no"),
        ({"final_norm": False}, "model.final_norm: False cannot be exported"),
    ],
)
def test_what_the_stock_modules_cannot_express(
    build: Any, tmp_path: Path, settings: dict[str, Any], sentence: str, no_weights: Callable[[], None]
) -> None:
    build("llama", **settings).save(tmp_path / "saved")
    no_weights()
    with pytest.raises(InputError, match=sentence):
        export(tmp_path / "saved", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_attention_that_a_reload_makes_causal(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("llama", attention="bidirectional").save(tmp_path / "saved")
    monkeypatch.setattr(exportable, "is_bidirectional", lambda model: False)
    with pytest.raises(InputError, match="model.attention: 'bidirectional' cannot be exported"):
        export(tmp_path / "saved", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    ("adapter", "settings", "sentence"),
    [
        (None, {}, "adapter.kind 'none' is no adapter"),
        (AdapterSpec("full"), {}, "adapter.kind 'full' is no adapter"),
        (AdapterSpec("dora", r=4), {}, "half of a 'dora' adapter"),
        (AdapterSpec("lora", r=4), {"layers": 2}, "model.layers"),
    ],
)
def test_adapter_only_needs_an_adapter_that_makes_the_model(
    build: Any,
    tmp_path: Path,
    adapter: AdapterSpec | None,
    settings: dict[str, Any],
    sentence: str,
    no_weights: Callable[[], None],
) -> None:
    build("llama", adapter=adapter, **settings).save(tmp_path / "saved")
    no_weights()
    with pytest.raises(InputError, match=f"--adapter-only: .*{sentence}"):
        export(tmp_path / "saved", tmp_path / "out", adapter_only=True)


def test_adapter_only_needs_a_base_that_others_find(model_cache: Path, tmp_path: Path) -> None:
    Embedder.from_pretrained("embedded:tiny", adapter=AdapterSpec("lora", r=4)).save(tmp_path / "saved")
    with pytest.raises(InputError, match="--adapter-only: the base model 'embedded:tiny' is neither"):
        export(tmp_path / "saved", tmp_path / "out", adapter_only=True)


def test_a_dtype_is_one_of_three(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--dtype: 'int8' is not one of: float32, bfloat16, float16"):
        export(saved, tmp_path / "out", dtype="int8")
    with pytest.raises(InputError, match="--dtype: 'bfloat16', but --adapter-only"):
        export(saved, tmp_path / "out", dtype="bfloat16", adapter_only=True)


@pytest.mark.parametrize(("dtype", "adapter_only"), [("bfloat16", False), ("float32", True)])
def test_centring_needs_vectors_in_float32(
    make_decoder: Callable[[str], Path],
    build: Any,
    tmp_path: Path,
    no_weights: Callable[[], None],
    dtype: str,
    adapter_only: bool,
) -> None:
    base = shutil.copytree(make_decoder("llama"), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    model = build("llama", adapter=AdapterSpec("lora", r=4))
    model.centre()
    model.save(tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved" / "embedllm.json").read_text())
    manifest["model"]["name"] = str(base)
    (tmp_path / "saved" / "embedllm.json").write_text(json.dumps(manifest))
    no_weights()
    with pytest.raises(InputError, match="centring: True with weights in bfloat16 cannot be exported"):
        export(tmp_path / "saved", tmp_path / "out", dtype=dtype, adapter_only=adapter_only)


def test_an_adapter_that_is_not_finite_is_named(build: Any, tmp_path: Path) -> None:
    build("llama", adapter=AdapterSpec("lora", r=4)).save(tmp_path / "saved")
    file = tmp_path / "saved" / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    name = min(weights)
    weights[name][0, 0] = float("nan")
    save_file(weights, file)
    with pytest.raises(InputError) as error:
        export(tmp_path / "saved", tmp_path / "out")
    assert str(error.value).startswith(f"adapter.path: {str(file)!r} holds NaN or infinity in {name!r}")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_an_older_export_stays_until_the_new_one_is_whole(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "older").write_text("")
    report = VerifyReport((Check("vectors", False, "lowest cosine 0.5"),))
    with monkeypatch.context() as patch:
        patch.setattr(writer, "verify", lambda folder: report)
        with pytest.raises(VerificationError):
            export(saved, tmp_path / "out", replace=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["older"]
    export(saved, tmp_path / "out", replace=True)
    assert not (tmp_path / "out" / "older").exists()
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "older").write_text("")
    move = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return move(self, target)

    def replaced() -> None:
        with whole_folder(tmp_path / "out", replace=True):
            monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(OSError, match="No space left"):
        replaced()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["older"]


def test_a_folder_with_something_in_it_is_left_alone(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"DIR: the folder '.*' is not empty; give a new one"):
        export(saved, tmp_path)
    with pytest.raises(InputError, match=r"DIR: '.*notes.txt' is a file; give a new folder"):
        export(saved, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled_and_folders_above_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "new"):
        with whole_folder(target) as folder:
            (folder / "file").write_text("x")
        assert [path.name for path in target.iterdir()] == ["file"]


def test_a_parent_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    made = whole_folder(tmp_path / "file" / "out")
    with pytest.raises(InputError, match=r"DIR: the folder '.*' cannot be made \(Not a directory\)"):
        made.__enter__()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        export(saved, tmp_path / "new" / "out")
    assert (caught.value.filename, caught.value.strerror) == (str(tmp_path / "new" / "out"), "No space left on device")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_verify_is_removed(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = VerifyReport((Check("vectors", False, "lowest cosine 0.5"),))
    monkeypatch.setattr(writer, "verify", lambda folder: report)
    with pytest.raises(VerificationError, match="lowest cosine 0.5"):
        export(saved, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_nothing(tmp_path: Path, model_cache: Path) -> None:
    with pytest.raises(InputError, match="model.name"):
        export("./nowhere", tmp_path / "out")
    assert not list(tmp_path.iterdir())
