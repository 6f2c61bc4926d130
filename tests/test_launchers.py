"""Hydra's launchers: a sweep of four jobs with each that is installed, and kills that change nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LAUNCHERS = {
    "workers": "hydra_plugins.hydra_joblib_launcher",
    "slurm_local": "hydra_plugins.hydra_submitit_launcher",
    "ray_tasks": "hydra_plugins.hydra_ray_launcher",
}
LIMIT_S = 1800  # of a program, on a machine that has other things to do

EXTRAS = {"workers": "joblib", "slurm_local": "submitit", "ray_tasks": "ray"}


def installed(launcher: str) -> None:
    try:
        there = find_spec(LAUNCHERS[launcher]) is not None
    except ModuleNotFoundError:
        there = False
    if not there:
        pytest.skip(f"the extra {EXTRAS[launcher]} is not installed")


@pytest.fixture
def environment(tmp_path: Path, model_cache: Path) -> dict[str, str]:
    """Of a program whose packages keep what they leave behind in a folder of the test."""
    shared = {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "EMBEDLLM_CACHE": str(model_cache)}
    return {**os.environ, **shared, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A similarity task, which takes no time."""
    path = tmp_path / "pairs.csv"
    rows = [f"text {i} of a {word},text {i * i} of the {word},{i % 5}" for i in range(12) for word in ("cat", "dog")]
    path.write_text("\n".join(["sentence1,sentence2,score", *rows]) + "\n")
    return path


def command(runs: Path, task: Path, *more: str) -> list[str]:
    words = ["model=tiny", "study=s", "pooling=mean,last", "prompt=none,cluster", "trainer.max_steps=0"]
    words += ["eval.intrinsic=false", "eval.max_documents=null", f"eval.tasks=[{task}]", f"runs_dir={runs}"]
    return [sys.executable, str(ROOT / "train.py"), "-m", *words, *more]


def scores(runs: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text())["tasks"] for path in runs.glob("s/*/result.json")}


def table(printed: str) -> list[str]:
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("pooling"))
    return lines[start : lines.index("", start)]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_of_four_jobs_ends_in_its_table(
    launcher: str, tmp_path: Path, pairs: Path, tiny_path: Path, environment: dict[str, str]
) -> None:
    installed(launcher)
    call = command(tmp_path / "runs", pairs, f"hydra/launcher={launcher}")
    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(scores(tmp_path / "runs")) == 4
    assert [line.split()[:2] for line in table(done.stdout)[2:]] == [
        [pooling, prompt] for pooling in ("mean", "last") for prompt in ("none", "cluster")
    ]


def test_a_failed_job_of_another_process_is_told_with_its_error(
    tmp_path: Path, pairs: Path, tiny_path: Path, environment: dict[str, str]
) -> None:
    installed("workers")
    call = command(tmp_path / "runs", pairs, "hydra/launcher=workers", "prompt=none", "model.layers=1,99")
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 1
    assert "failed: model.layers: 99 is not possible" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(scores(tmp_path / "runs")) == 2


def killed(call: list[str], environment: dict[str, str], after: float, log: Path) -> str | None:
    """Start a program, and kill all its processes after so many seconds; return what it printed if it was done."""
    with log.open("w") as file:
        process = subprocess.Popen(call, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    assert process.returncode == 0, log.read_text()[-3000:]
    return log.read_text()


def test_kills_at_random_moments_change_nothing_in_the_final_table(
    tmp_path: Path, pairs: Path, tiny_path: Path, environment: dict[str, str]
) -> None:
    installed("workers")
    kills = int(os.environ.get("EMBEDLLM_TEST_KILLS", "3"))
    begin = time.monotonic()
    whole = command(tmp_path / "whole", pairs, "hydra/launcher=workers", "eval.cache=false")
    expected = killed(whole, environment, LIMIT_S, tmp_path / "whole.log")
    seconds = time.monotonic() - begin
    assert expected is not None
    printed = None
    draw = random.Random(0)
    hits, rounds = 0, 0
    while hits < kills or printed is None:
        runs = tmp_path / f"killed{rounds}"
        call = command(runs, pairs, "hydra/launcher=workers", "eval.cache=false")
        after = draw.uniform(0.3, 0.8) * seconds if hits < kills else LIMIT_S
        printed = killed(call, environment, after, tmp_path / "killed.log")
        if printed is None:
            hits += 1
            continue
        rounds += 1  # done before there were enough kills: again from nothing
        assert table(printed) == table(expected)
        assert scores(runs) == scores(tmp_path / "whole")
        assert not list(runs.glob("s/*/.*"))
