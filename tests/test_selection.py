"""The weights that a development set picks: the same after any interruption, and nothing else is changed by it."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from embedllm import Embedder
from embedllm.data.digest import file_digest
from embedllm.report.curves import draw_curve
from embedllm.runs import RunFolder, run_id
from embedllm.selection import Selection, average
from embedllm.train import main

pytestmark = pytest.mark.usefixtures("quick_scores")

Run = Callable[..., int]


def entries(*scores: float) -> dict[str, dict[str, Any]]:
    return {f"task{i}": {"main_score": score} for i, score in enumerate(scores)}


def weights(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((2, 2), value), "b": torch.tensor([value])}


def recorded(folder: Path, scores: dict[int, float], **settings: Any) -> Selection:
    selection = Selection(RunFolder(folder), **settings)
    for step, score in scores.items():
        selection.record(step, entries(score, score + 1), weights(step))
    return selection


CURVE = {0: 90.0, 2: 10.0, 4: 30.0, 6: 20.0, 8: 30.0}


def test_the_best_step_wins_and_the_untrained_model_is_no_candidate(tmp_path: Path) -> None:
    selection = recorded(tmp_path, CURVE)
    assert selection.curve() == {step: score + 0.5 for step, score in CURVE.items()}
    assert selection.best() == [4]  # of two equal ones the earlier
    assert torch.equal(selection.weights(4)["a"], weights(4)["a"])


def test_only_the_best_weights_stay_on_disk(tmp_path: Path) -> None:
    selection = recorded(tmp_path, CURVE, keep=2)
    assert selection.best() == [4, 8]
    files = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.safetensors"))
    assert files == ["step-00000004.safetensors", "step-00000008.safetensors"]
    assert torch.equal(selection.averaged()["b"], torch.tensor([6.0]))


def test_it_goes_on_from_what_is_on_disk(tmp_path: Path) -> None:
    whole = recorded(tmp_path / "a", CURVE, keep=2)
    recorded(tmp_path / "b", {0: 90.0, 2: 10.0, 4: 30.0}, keep=2)
    cut = recorded(tmp_path / "b", {6: 20.0, 8: 30.0}, keep=2)
    assert cut.curve() == whole.curve()
    assert cut.best() == whole.best()
    assert torch.equal(cut.averaged()["a"], whole.averaged()["a"])


@pytest.mark.parametrize(
    ("scores", "stops"), [((1, 2, 3), False), ((3, 2), False), ((3, 2, 1), True), ((3, 2, 3), True)]
)
def test_patience_counts_evaluations_since_the_best(tmp_path: Path, scores: tuple[float, ...], stops: bool) -> None:
    selection = recorded(tmp_path, {0: 99.0, **{2 * i + 2: score for i, score in enumerate(scores)}}, patience=2)
    assert selection.exhausted() == stops


def test_the_average_is_taken_in_float64() -> None:
    parts = [{"w": torch.tensor([1e8, 1.0])}, {"w": torch.tensor([-1e8, 0.0])}, {"w": torch.tensor([1.0, 0.5])}]
    assert torch.equal(average(parts)["w"], torch.tensor([1 / 3, 0.5]))
    assert average([{"w": torch.ones(2, dtype=torch.bfloat16)}] * 2)["w"].dtype == torch.bfloat16


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train the tiny model for eight steps, with a development set scored every two."""
    for name, words in (("labels", ("river", "engine", "bread")), ("dev", ("horse", "piano", "tax"))):
        rows = [f"the {word} number {i} is here,{word}" for i in range(8) for word in words]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")

    def start(runs: str, *more: str, dev: bool = True) -> int:
        settings = ["model=tiny", "prompt=cluster", "pooling=last", "adapter.r=4", "optimizer.lr=5e-3"]
        settings += [
            "trainer.max_steps=8",
            "trainer.batch_size=8",
            "trainer.warmup=2",
            "eval.max_documents=null",
            "eval.intrinsic=false",
        ]
        settings += [f"eval.tasks=[{tmp_path / 'labels.csv'}]", f"runs_dir={tmp_path / runs}"]
        settings += [f"eval.dev=[{tmp_path / 'dev.csv'}]", "trainer.eval_every=2"] if dev else []
        monkeypatch.setattr(sys, "argv", ["train.py", *settings, *more])
        return main()

    return start


def folder(tmp_path: Path, runs: str) -> Path:
    (found,) = (tmp_path / runs).glob("*/*")
    return found


def adapter(tmp_path: Path, runs: str) -> dict[str, Tensor]:
    return load_file(folder(tmp_path, runs) / "model" / "adapter" / "adapter_model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def selection_of(tmp_path: Path, runs: str) -> dict[str, Any]:
    result = json.loads((folder(tmp_path, runs) / "result.json").read_text())
    return dict(result["train"]["selection"])


def scripted(
    monkeypatch: pytest.MonkeyPatch, scores: list[float], then: Callable[[int], None] = lambda _: None
) -> None:
    """Let the development set give these scores, one an evaluation."""
    left = list(scores)

    def score(embedder: Embedder, specs: Any, documents: Any, on_result: Any) -> dict[str, Any]:
        then(len(scores) - len(left))
        value = left.pop(0)
        return {spec.name: {"main_score": value} for spec in specs}

    monkeypatch.setattr("embedllm.development.score", score)


@pytest.mark.slow
def test_scoring_along_the_way_changes_no_bit_of_the_weights(run: Run, tmp_path: Path) -> None:
    assert run("plain", dev=False) == 0
    assert run("watched", "eval.select=false") == 0
    assert same(adapter(tmp_path, "plain"), adapter(tmp_path, "watched"))
    assert folder(tmp_path, "plain").name == folder(tmp_path, "watched").name  # the same weights, the same run
    assert list(selection_of(tmp_path, "watched")["curve"]) == ["0", "2", "4", "6", "8"]
    assert selection_of(tmp_path, "watched")["steps"] == [8]


@pytest.mark.slow
def test_the_best_weights_are_those_of_a_training_that_ended_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [1, 5, 9, 5, 5])
    assert run("picked") == 0
    assert run("short", "trainer.max_steps=4", "trainer.schedule=constant", dev=False) == 0
    scripted(monkeypatch, [1, 5, 9, 5, 5])
    assert run("constant", "trainer.schedule=constant") == 0
    assert selection_of(tmp_path, "picked")["steps"] == [4]
    assert selection_of(tmp_path, "picked")["score"] == 9
    assert same(adapter(tmp_path, "constant"), adapter(tmp_path, "short"))
    assert (folder(tmp_path, "picked") / "dev_curve.png").stat().st_size > 5_000


@pytest.mark.slow
@pytest.mark.parametrize(("averaged", "steps"), [(9.5, [4, 8]), (8.9, [4])])
def test_the_average_is_kept_if_it_is_better(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged: float, steps: list[int]
) -> None:
    scripted(monkeypatch, [1, 5, 9, 5, 8, averaged])
    assert run("averaged", "eval.average=2", "trainer.schedule=constant") == 0
    assert selection_of(tmp_path, "averaged")["steps"] == steps
    for last in (4, 8):
        assert run(f"to{last}", f"trainer.max_steps={last}", "trainer.schedule=constant", dev=False) == 0
    parts = [adapter(tmp_path, "to4"), adapter(tmp_path, "to8")]
    expected = average(parts) if len(steps) > 1 else parts[0]
    assert same(adapter(tmp_path, "averaged"), expected)


@pytest.mark.slow
def test_patience_ends_the_training(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1, 9, 5])
    assert run("patient", "eval.patience=1") == 0
    assert selection_of(tmp_path, "patient")["steps"] == [2]
    result = json.loads((folder(tmp_path, "patient") / "result.json").read_text())
    assert result["train"]["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 1, 2, 4])
def test_a_signal_during_an_evaluation_changes_nothing_of_the_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    scores = [1.0, 5.0, 9.0, 5.0, 5.0]
    scripted(monkeypatch, scores)
    assert run("whole") == 0

    def stop(evaluation: int) -> None:
        if evaluation == where:
            os.kill(os.getpid(), signal.SIGTERM)

    scripted(monkeypatch, scores, stop)
    assert run("cut") == 128 + signal.SIGTERM
    scripted(monkeypatch, scores[where:])
    assert run("cut") == 0
    assert selection_of(tmp_path, "cut") == selection_of(tmp_path, "whole")
    assert same(adapter(tmp_path, "cut"), adapter(tmp_path, "whole"))
    for name in ("whole", "cut"):
        assert not (folder(tmp_path, name) / "checkpoints").exists()
    rows = [(folder(tmp_path, name) / "metrics.csv").read_text() for name in ("cut", "whole")]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_run_that_stopped_early_is_not_trained_on_when_it_is_resumed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [1, 9, 5])
    with monkeypatch.context() as patch:
        patch.setattr("embedllm.report.curves.draw_curve", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        patch.setattr(signal, "SIGTERM", signal.SIGINT)
        assert run("cut", "eval.patience=1") == 128 + signal.SIGINT
    scripted(monkeypatch, [])
    assert run("cut", "eval.patience=1") == 0
    result = json.loads((folder(tmp_path, "cut") / "result.json").read_text())
    assert result["train"]["steps"] == 4


def test_a_development_task_that_fails_stops_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("embedllm.development.score", lambda *_: {"dev": {"error": "no data"}})
    assert run("failing") == 1
    assert "eval.dev: dev was not scored at step 0: no data" in capsys.readouterr().err


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["eval.dev=[LABELS]"], "eval.dev: '{labels}' is in eval.tasks too"),
        (["eval.dev=[COPY]"], "eval.dev: '{copy}' is in eval.tasks too"),
        (["eval.dev=[nowhere.csv]"], "eval.dev: 'nowhere.csv': no file at"),
        (["trainer.eval_every=null"], "eval.dev: set trainer.eval_every too"),
        (["eval.dev=[]"], "trainer.eval_every: 2, but eval.dev names no task"),
        (["eval.select=false", "eval.patience=1"], "eval.patience: 1, but it needs tasks in eval.dev and eval.select"),
        (["eval.average=0"], "eval.average: 0 is not allowed"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], sentence: str
) -> None:
    labels, copy = tmp_path / "labels.csv", tmp_path / "copy.csv"
    copy.write_bytes(labels.read_bytes())
    settings = [word.replace("LABELS", str(labels)).replace("COPY", str(copy)) for word in settings]
    assert run("bad", *settings) == 2
    error = capsys.readouterr().err
    assert sentence.format(labels=labels, copy=copy) in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_the_overlap_can_be_asked_for(run: Run, tmp_path: Path) -> None:
    assert run("overlap", f"eval.dev=[{tmp_path / 'labels.csv'}]", "eval.allow_overlap=true") == 0


def test_what_selects_is_part_of_the_id() -> None:
    config: dict[str, Any] = {
        name: {} for name in ("model", "prompt", "pooling", "adapter", "data", "loss", "optimizer")
    }
    config |= {"seed": 0, "trainer": {"max_steps": 8, "eval_every": None}}
    bare = run_id(config)
    dev = {**config, "eval": {"dev": ["x"], "select": True}, "trainer": {"max_steps": 8, "eval_every": 2}}
    assert run_id({**config, "eval": {"dev": [], "max_documents": 5}}) == bare
    assert run_id({**dev, "eval": {"dev": ["x"], "select": False}}) == bare
    assert len({bare, run_id(dev), run_id({**dev, "trainer": {"max_steps": 8, "eval_every": 4}})}) == 3


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    chosen = {"curve": {0: 1.0, 5: 3.0, 10: 2.0}, "steps": [5, 10], "score": 3.5, "tasks": ["a", "b"]}
    draw_curve(chosen, tmp_path / "new" / "curve.png")
    assert (tmp_path / "new" / "curve.png").stat().st_size > 5_000


@pytest.mark.slow
def test_a_finished_run_is_not_scored_on_what_picked_its_weights(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("runs") == 0
    (entry,) = selection_of(tmp_path, "runs")["of"].values()
    assert entry["sha256"] == file_digest(tmp_path / "dev.csv")[:16]
    assert run("runs", f"eval.tasks=[{tmp_path / 'dev.csv'}]") == 2
    assert "is in eval.tasks too, and a score that picked the weights is no test of them" in capsys.readouterr().err
