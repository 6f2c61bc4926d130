"""A run on several devices through the program: the same weights, one writer, and an end for all when one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedllm.launch import cores
from embedllm.train import main

ROOT = Path(__file__).parents[1]
needs_two_cores = pytest.mark.skipif(cores() < 2, reason="a CPU has as many devices as cores")


@pytest.fixture
def settings() -> list[str]:
    """A training with dropout and augmentation; 7 pairs divide by nothing."""
    return [
        *("model=tiny", "prompt=cluster", "pooling=last", "adapter.r=4", "adapter.dropout=0.2"),
        *("model.dtype=float32", "trainer.precision=float32"),  # bfloat16 rounds by how texts are padded
        *("trainer.max_steps=6", "trainer.batch_size=7", "trainer.warmup=1", "trainer.micro_batch_tokens=100"),
        *("optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1", "~optimizer.weight_decay"),
        *("eval.max_documents=null", "eval.tasks=[]", "eval.intrinsic=false", "eval.cache=false"),
    ]


@pytest.fixture
def scored(settings: list[str], tmp_path: Path) -> list[str]:
    """The same with scores, and a development set that picks the weights."""
    for name, words in (("labels", ("river", "engine", "bread")), ("dev", ("horse", "piano", "tax"))):
        rows = [f"the {word} number {i} is here,{word}" for i in range(8) for word in words]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    scores = [f"eval.tasks=[{tmp_path / 'labels.csv'}]", f"eval.dev=[{tmp_path / 'dev.csv'}]"]
    kept = [setting for setting in settings if setting != "eval.tasks=[]"]
    return [*kept, *scores, "trainer.eval_every=3", "eval.average=2"]


def command(settings: list[str], runs: Path, *more: str) -> list[str]:
    return ["train.py", *settings, f"runs_dir={runs}", *more]


def start(words: list[str], *prefix: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *prefix, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def only_run(runs: Path) -> Path:
    (folder,) = runs.glob("*/*")
    return folder


def weights(runs: Path) -> dict[str, torch.Tensor]:
    return load_file(only_run(runs) / "model" / "adapter" / "adapter_model.safetensors")


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen within five minutes")


def children(process: "subprocess.Popen[str]") -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in text.split()]


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def steps(runs: Path) -> int:
    return sum(path.read_text().count("train/loss") for path in runs.glob("*/*/metrics.csv"))


@pytest.mark.slow
@needs_two_cores
@pytest.mark.parametrize("launcher", ["own", "torchrun"])
def test_two_devices_give_the_run_of_one(scored: list[str], tmp_path: Path, launcher: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert finish(start(command(scored, one)))[0] == 0
    if launcher == "own":
        code, printed = finish(start(command(scored, two, "trainer.devices=2")))
    else:
        code, printed = finish(start(command(scored, two), "-m", "torch.distributed.run", "--nproc-per-node", "2"))
    assert code == 0, printed
    assert printed.count("score after the training") == 1
    assert only_run(one).name == only_run(two).name
    expected = weights(one)
    for name, value in weights(two).items():
        torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=1e-3)
    results = [json.loads((only_run(runs) / "result.json").read_text()) for runs in (one, two)]
    for count in ("steps", "pairs", "tokens"):
        assert results[0]["train"][count] == results[1]["train"][count]
    assert results[0]["train"]["selection"]["steps"] == results[1]["train"]["selection"]["steps"]


@pytest.mark.slow
@needs_two_cores
def test_a_signal_to_one_process_stops_all_and_the_same_command_goes_on(settings: list[str], tmp_path: Path) -> None:
    settings += ["trainer.devices=2", "trainer.max_steps=40"]
    assert finish(start(command(settings, tmp_path / "whole")))[0] == 0
    process = start(command(settings, tmp_path / "cut"))
    wait_until(lambda: steps(tmp_path / "cut") > 2)
    (child,) = children(process)
    os.kill(child, signal.SIGTERM)
    code, printed = finish(process)
    assert code == 128 + signal.SIGTERM, printed
    assert printed.count("the same command goes on from here") == 1
    assert not alive(child)
    state = torch.load(only_run(tmp_path / "cut") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == steps(tmp_path / "cut") < 40
    assert finish(start(command(settings, tmp_path / "cut")))[0] == 0
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(value, whole[name]) for name, value in weights(tmp_path / "cut").items())


@pytest.mark.slow
@needs_two_cores
@pytest.mark.parametrize("killed", ["first", "second"])
def test_no_process_waits_for_one_that_was_killed(settings: list[str], tmp_path: Path, killed: str) -> None:
    process = start(command(settings, tmp_path / "runs", "trainer.devices=2", "trainer.max_steps=4000"))
    wait_until(lambda: steps(tmp_path / "runs") > 2)
    (child,) = children(process)
    os.kill(child if killed == "second" else process.pid, signal.SIGKILL)
    code, printed = finish(process)
    wait_until(lambda: not alive(child))
    if killed == "second":
        assert code == 1
        assert "another process of the training has ended before its time" in printed


@pytest.mark.slow
@needs_two_cores
def test_an_error_of_the_first_process_is_told_once_and_ends_all(settings: list[str], tmp_path: Path) -> None:
    process = start(command(settings, tmp_path / "runs", "trainer.devices=2", "optimizer.lr=1e38", "trainer.clip=null"))
    code, printed = finish(process)
    assert code == 1
    assert sum("is not finite" in line for line in printed.splitlines()) == 1, printed
    assert (only_run(tmp_path / "runs") / "bad_batch.json").exists()


@pytest.mark.parametrize(
    ("environment", "overrides", "sentence"),
    [
        ({}, ["trainer.devices=1000"], "trainer.devices: 1000, but this machine has "),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["-m"], "trainer.devices: 2 with -m, but a sweep gives each run one device"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["trainer.devices=3"], "trainer.devices: 3, but torchrun started 2 process"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    overrides: list[str],
    sentence: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", command(settings, tmp_path / "runs", *overrides))
    assert main() == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(sentence)
