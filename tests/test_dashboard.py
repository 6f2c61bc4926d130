"""``embedllm dashboard``: what is recorded of a study, the workspace that is sent, and the sentences without one."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from made_studies import make_run
from wandb_records import read

from embedllm import dashboard
from embedllm.cli import main
from embedllm.tracking.wandb_sink import WandbSink
from embedllm.tracking.workspace import StudyView, build_workspace

NODE = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p", "entity": "us"}


def result(pooling: str, seed: int) -> dict[str, Any]:
    config = {
        "study": "mine",
        "seed": seed,
        "runs_dir": "runs",
        "pooling": {"_target_": f"heads.{pooling}"},
        "prompt": {"template": "{text}"},
        "loss": {"temperature": 0.1},
        "trainer": {"max_steps": 2},
        "eval": {"tasks": ["a.csv"]},
        "logger": {"wandb": NODE},
    }
    tasks = {"a": {"main_score": 40.0 + seed, "before": 30.0}}
    choices = {"pooling": pooling, "prompt": "none", "model": "tiny"}
    scores = {"score": 40.0 + seed, "score_before": 30.0}
    return {
        "study": "mine",
        "config": config,
        "choices": choices,
        "tasks": tasks,
        "train": {"steps": 2},
        **scores,
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two heads and two seeds, with a report, a figure and a damaged result."""
    folder = tmp_path / "runs" / "mine"
    for pooling in ("mean", "last"):
        for seed in (0, 1):
            run = folder / f"{pooling}-none-{seed}"
            run.mkdir(parents=True)
            (run / "result.json").write_text(json.dumps(result(pooling, seed)))
    (folder / "bad").mkdir()
    (folder / "bad" / "result.json").write_text("{")
    wrong = {"config": None, "choices": [], "tasks": None, "study": 1, "cells": [None]}
    for name, value in [*wrong.items(), ("logger", {"x": {}}), ("logger", {"x": None})]:
        run = folder / f"wrong-{name}-{value}"
        run.mkdir()
        whole = result("mean", 0)
        changed = {"config": {**whole["config"], "logger": value}} if name == "logger" else {name: value}
        (run / "result.json").write_text(json.dumps({**whole, **changed}))
    (folder / "report").mkdir()
    (folder / "report" / "report.html").write_text("<!doctype html><title>mine</title>")
    (folder / "results.csv").write_text("of an older report")
    (folder / "report" / "results.csv").write_text("a,b\n")
    return folder


@pytest.fixture(autouse=True)
def fresh_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B as in a process of its own."""
    wandb.teardown()
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(WandbSink, "silent_until", 0.0)
    yield
    wandb.finish()
    wandb.teardown()


@pytest.mark.slow
def test_offline_the_report_is_recorded_and_the_workspace_left_out(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        assert main(["dashboard", str(study)]) == 2
        assert "WANDB_MODE: 'offline', but a workspace is made on the server" in capsys.readouterr().err
    (record,) = read(study)
    names = ("run_group", "job_type", "display_name", "run_id", "project", "entity")
    assert [record.run[name] for name in names] == ["mine", "report", "report", "mine-report", "p", "us"]
    (files,) = record.artifacts.values()
    written = {path.name: path.read_text() for path in files}
    assert written == {"results.csv": "a,b\n", "report.html": (study / "report" / "report.html").read_text()}
    assert record.summary["figures/report._type"] == "html-file"


@pytest.mark.slow
def test_a_report_is_recorded_where_the_runs_are_and_nothing_of_that_stops_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    study = tmp_path / "made"
    make_run(study, "mean")
    assert main(["report", str(study)]) == 0
    assert read(tmp_path) == []  # no run of it is on W&B
    make_run(study, "last", logger={"wandb": NODE})
    for _ in range(2):
        assert main(["report", str(study), "-o", str(tmp_path / "elsewhere")]) == 0
    (record,) = read(tmp_path)
    assert (record.run["run_group"], record.run["run_id"]) == ("made", "made-report")
    (files,) = record.artifacts.values()
    assert sorted(path.name for path in files) == ["report.html", "report.md", "results.csv", "table.tex"]
    assert f"{tmp_path / 'elsewhere' / 'report.html'}\n" in capsys.readouterr().out
    monkeypatch.setattr(dashboard, "build_sinks", broken)
    assert main(["report", str(study)]) == 0
    assert caplog.messages[-1] == "the report is not recorded with W&B: RuntimeError: no way"
    other_name = make_run(study, "max", logger={"wandb": NODE}).result
    other_name.write_text(json.dumps({**json.loads(other_name.read_text()), "study": "other"}))
    assert main(["report", str(study)]) == 0
    assert "holds runs of the studies" in caplog.messages[-1]


def broken(*_: Any) -> None:
    raise RuntimeError("no\nway")


def test_files_that_w_and_b_did_not_take_are_not_said_to_be_recorded(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert dashboard.record_report(dashboard.read_tracked(study)) == []


def test_what_varies_is_found(study: Path) -> None:
    found = dashboard.read_tracked(study)
    assert (found.project, found.entity) == ("p", "us")
    assert found.view == StudyView("mine", ["pooling", "seed"], ["a"], trained=True, scanned=False)
    assert found.view.groups == ["pooling"]


@pytest.mark.slow
def test_without_an_account_there_is_one_sentence(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    assert main(["dashboard", str(study)]) == 2
    assert "W&B has no account, so there is no workspace; set one up with: wandb login" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_one_sentence(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(verify: bool, **_: Any) -> bool:
        if verify:
            raise wandb.errors.AuthenticationError("no\nroute")
        return False

    monkeypatch.setattr(wandb, "login", away)
    assert main(["dashboard", str(study)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "W&B does not answer, so there is no workspace (no route)"


def test_a_missing_package_is_one_sentence(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard, "record_report", lambda study: [])
    monkeypatch.setattr("embedllm.tracking.workspace.check_online", lambda: None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert main(["dashboard", str(study)]) == 2
    said = capsys.readouterr().err
    assert "wandb-workspaces is not installed" in said
    assert "pip install 'embedllm[dashboard]'" in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda study: study.rename(study.with_name("gone")), "is no folder; give that of a study"),
        (lambda study: [path.unlink() for path in study.glob("*/result.json")], "holds no finished run"),
        (lambda study: rewrite(study, logger={}), "no run of it is on W&B; make them with logger=wandb"),
        (lambda study: other(study), "holds runs of the studies other, mine; put each into a folder of its own"),
    ],
)
def test_what_is_no_tracked_study_is_one_sentence(
    study: Path, capsys: pytest.CaptureFixture[str], change: Any, sentence: str
) -> None:
    change(study)
    assert main(["dashboard", str(study)]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert len(printed.splitlines()) == 1


def rewrite(study: Path, **settings: Any) -> None:
    for path in study.glob("*-none-*/result.json"):
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "config": {**found["config"], **settings}}))


def other(study: Path) -> None:
    path = study / "last-none-0" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "study": "other"}))


VIEW = StudyView("mine", ["pooling", "prompt", "loss/temperature", "seed"], ["a", "b"], trained=True, scanned=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package, at its own expense
def test_the_workspace_shows_the_group_by_what_varies() -> None:
    """What would be sent, as the package itself writes it."""
    pytest.importorskip("wandb_workspaces")
    sent = build_workspace(VIEW, "p", "us")._to_model().model_dump(by_alias=True, exclude_none=True)
    section = sent["spec"]["section"]
    (runs,) = section["runSets"]
    text = json.dumps(runs["filters"])
    assert '"group"' in text
    assert '"mine"' in text
    grouping = [(key["section"], key["name"]) for key in runs["grouping"]]
    assert [name.split(".")[0] for _, name in grouping] == ["pooling", "prompt", "loss/temperature"]
    assert {kind for kind, _ in grouping} == {"config"}
    panels = {item["name"]: item["panels"] for item in section["panelBankConfig"]["sections"]}
    assert list(panels) == ["Scores", "Training", "Scans", "Figures"]
    bars = [panel["config"] for panel in panels["Scores"] if panel["viewType"] == "Bar Chart"]
    assert len(bars) == 9  # the mean and two tasks, by three settings
    assert {json.dumps(bar["metrics"]) for bar in bars} == {'["score"]', '["eval/a"]', '["eval/b"]'}
    (axes,) = [panel["config"]["columns"] for panel in panels["Scores"] if "Parallel" in panel["viewType"]]
    assert [axis["accessor"].split(":")[0] for axis in axes] == ["config"] * 4 + ["summary"]


class Saved:
    """A workspace of a server that is not there."""

    url = "https://wandb.ai/us/p?nw=abc"


def test_the_same_command_updates_its_workspace(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    from embedllm.tracking.workspace import save_workspace

    saved: list[Any] = []
    kept: list[Any] = []

    def save(self: Any) -> Saved:
        saved.append(self)
        return Saved()

    monkeypatch.setattr(workspaces.Workspace, "save", save)
    monkeypatch.setattr(workspaces.Workspace, "from_url", lambda url: kept.append(url) or saved[0])
    link = study / "dashboard.txt"
    addresses = [save_workspace(VIEW, "p", "us", link) for _ in range(2)]
    assert addresses == [Saved.url] * 2
    assert kept == [Saved.url]
    assert saved[0] is saved[1]
