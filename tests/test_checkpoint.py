"""Checkpoints are whole or not there, and what is wrong with one is a sentence."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from embedllm.checkpoint import WholeCheckpointIO, read_checkpoint
from embedllm.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_scores")


def content(value: float = 1.0) -> dict[str, Any]:
    moments = {"state": {0: {"exp_avg": torch.full((2,), value)}}, "param_groups": [{"lr": 0.1}]}
    return {"state_dict": {"a.weight": torch.ones(3)}, "optimizer_states": [moments], "totals": {"steps": 3}}


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(content(), path)
    found = WholeCheckpointIO().load_checkpoint(path)
    assert torch.equal(found["state_dict"]["a.weight"], torch.ones(3))
    assert found["totals"] == {"steps": 3}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(b""), "is damaged, or no checkpoint of embedllm; remove it to start"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "is damaged, or no checkpoint"),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), "is damaged, or no checkpoint"),
        (lambda path: torch.save({"state_dict": Evil()}, path), "is damaged, or no checkpoint"),
        (lambda path: torch.save({"weights": torch.ones(1)}, path), "is no checkpoint of embedllm"),
        (
            lambda path: torch.save(content(float("nan")), path),
            "NaN or infinity in 'optimizer_states.0.state.0.exp_avg'",
        ),
        (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
    ],
    ids=["empty", "half", "pickle", "pickle inside", "foreign", "nan", "gone"],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    torch.save(content(), path)
    damage(path)
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("executed").exists()


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before_and_needs_no_temporary_folder(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk; a process of its own, as the limit stays."""
    script = """
import resource, signal, sys, torch
from pathlib import Path
from embedllm.checkpoint import WholeCheckpointIO, read_checkpoint
from embedllm.errors import InputError
path = Path(sys.argv[1])
small = {"state_dict": {"a": torch.ones(3)}, "optimizer_states": [], "totals": {}}
WholeCheckpointIO().save_checkpoint(small, path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    WholeCheckpointIO().save_checkpoint({**small, "state_dict": {"a": torch.ones(100_000)}}, path)
except InputError as error:
    print(error)
assert torch.equal(read_checkpoint(path)["state_dict"]["a"], torch.ones(3))
assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
"""
    path = tmp_path / "run" / "last.ckpt"
    environment = {"PATH": "", "TMPDIR": "/nowhere", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"runs_dir: the checkpoint '{path}' cannot be written (")
    assert "the same command goes on from the checkpoint before" in done.stdout
