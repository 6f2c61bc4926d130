"""Run ids and run folders."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embedllm.errors import InputError
from embedllm.runs import Busy, RunFolder, apply_umask, replace_text, run_id

CONFIG: dict[str, Any] = {
    "study": "s",
    "seed": 0,
    "runs_dir": "runs",
    "model": {
        "name": "embedded:smollm2_135m",
        "layers": None,
        "final_norm": True,
        "attention": "causal",
        "dtype": "auto",
        "max_length": 512,
    },
    "prompt": {"template": "{text}", "bos": "auto"},
    "pooling": {"_target_": "embedllm.pooling.MeanPooling", "pool_over": "all", "normalize": True},
    "adapter": {"kind": "lora", "r": 64, "path": None},
    "data": {"path": "1234", "anchor": "anchor"},
    "loss": {"_target_": "embedllm.losses.InfoNCE", "temperature": 0.1},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 2e-4},
    "trainer": {"max_steps": 0, "batch_size": 32, "micro_batch_tokens": "auto", "checkpoint_every": 10, "devices": 1},
    "eval": {"tasks": [], "max_documents": None},
    "logger": {},
}


TRAINED = copy.deepcopy(CONFIG)
TRAINED["trainer"]["max_steps"] = 40


def changed(path: str, value: Any, base: dict[str, Any] = CONFIG) -> dict[str, Any]:
    config = copy.deepcopy(base)
    node = config
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    return config


def test_golden_id() -> None:
    """A change of this value orphans every finished run of every user."""
    assert run_id(CONFIG) == "b5098c24"
    assert run_id(TRAINED) == "f10b9c16"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.name", "other"),
        ("model.layers", 20),
        ("model.attention", "bidirectional"),
        ("model.dtype", "float32"),
        ("model.max_length", 100),
        ("prompt.template", "Text: {text}"),
        ("prompt.bos", True),
        ("pooling._target_", "embedllm.pooling.MaxPooling"),
        ("pooling.normalize", False),
        ("seed", 1),
    ],
)
def test_what_decides_the_vectors_changes_the_id(path: str, value: Any) -> None:
    assert run_id(changed(path, value)) != run_id(CONFIG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study", "other"),
        ("runs_dir", "/elsewhere"),
        ("eval.tasks", ["a.csv"]),
        ("eval.max_documents", 5),
        ("trainer.devices", 4),
        ("trainer.batch_size", 64),
        ("adapter.r", 8),
        ("data.path", "5678"),
        ("loss.temperature", 0.2),
        ("logger", {"wandb": {"project": "p"}}),
    ],
)
def test_what_does_not_decide_the_vectors_leaves_the_id(path: str, value: Any) -> None:
    assert run_id(changed(path, value)) == run_id(CONFIG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.max_steps", 41),
        ("trainer.batch_size", 64),
        ("adapter.r", 8),
        ("data.path", "5678"),
        ("loss.temperature", 0.2),
        ("optimizer.lr", 1e-4),
    ],
)
def test_what_decides_a_training_changes_the_id_of_a_trained_run(path: str, value: Any) -> None:
    assert run_id(changed(path, value, TRAINED)) != run_id(TRAINED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.micro_batch_tokens", 512),
        ("trainer.checkpoint_every", 1),
        ("trainer.devices", 2),
        ("trainer.gradient_checkpointing", True),
        ("trainer.compile", True),
        ("trainer.snapshots", [2, 4]),
    ],
)
def test_time_and_memory_leave_the_id_of_a_trained_run(path: str, value: Any) -> None:
    assert run_id(changed(path, value, TRAINED)) == run_id(TRAINED)


def test_an_adapter_to_continue_from_decides_the_vectors_even_without_steps() -> None:
    assert run_id(changed("adapter.path", ["abcd"])) != run_id(CONFIG)


def test_a_new_setting_that_is_null_leaves_the_id() -> None:
    assert run_id(changed("model.new_setting", None)) == run_id(CONFIG)


def test_one_and_one_point_zero_are_the_same_value() -> None:
    assert run_id(changed("pooling.scale", 1.0)) == run_id(changed("pooling.scale", 1))


def test_replaced_text_is_whole_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    replace_text(path, "old")

    def full_disk(self: Path, *_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null"])
def test_a_damaged_result_counts_as_none(tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path)
    folder.result.write_text(content)
    assert folder.read_result() is None


def test_a_result_takes_away_the_mark_of_failure(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.error.write_text("it broke")
    folder.write_result({"tasks": {}})
    assert not folder.error.exists()
    assert json.loads(folder.result.read_text()) == {"tasks": {}}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="runs_dir: the folder .* cannot be made"):
        RunFolder(tmp_path / "file" / "run").create()


HOLD = """
import sys, time
from pathlib import Path
from embedllm.runs import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_works_on_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        before = sorted(folder.path.iterdir())
        with pytest.raises(Busy) as error, folder.locked():
            pytest.fail("there were two")
        assert str(error.value) == (
            f"RUN: {str(folder.path)!r}: another process is at work on this run; wait for it or stop it"
        )
        assert sorted(folder.path.iterdir()) == before
        other.send_signal(signal.SIGKILL)
    assert folder.lock.exists()
    with folder.locked():
        folder.metrics.write_text("")
    assert [path.name for path in folder.path.iterdir()] == ["metrics.csv"]


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    def refused() -> None:
        with folder.locked():
            raise InputError("model.layers: 99")

    with pytest.raises(InputError, match="99"):
        refused()
    assert not folder.path.exists()


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    names = [".result.json.{}.tmp", "evidence/after/.a.npz.{}.tmp", ".export.{}.partial/x", "model/.adapter.{}.old/x"]
    kept = [".hidden", "result.json", ".notes.tmp", "model/adapter", *(name.format(os.getppid()) for name in names)]
    gone = [name.format(process) for process in (dead_process(), os.getpid()) for name in names]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path).locked():
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == {
            tmp_path / name for name in [*kept, ".lock"]
        }
    assert len(list(tmp_path.glob(".export.*"))) == 1


def test_weights_get_the_mode_of_other_files(tmp_path: Path) -> None:
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.parent.mkdir()
    weights.touch(mode=0o600)
    (tmp_path / "other").write_text("")
    apply_umask(tmp_path)
    assert weights.stat().st_mode == (tmp_path / "other").stat().st_mode
