"""Runs on Weights & Biases: what an offline record holds, and that nothing of W&B stops a run."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb_records import Record, read

from embedllm.runs import RunFolder
from embedllm.tracking import Identity, Tracker, build_sinks
from embedllm.tracking.wandb_sink import WandbSink

NODE = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p", "job_type": None, "tags": []}
SETTINGS = {"pooling": "mean", "prompt": "none", "seed": 0, "loss/temperature": 0.1}
NOBODY = "http://127.0.0.1:9"  # the port of the discard protocol, closed nearly everywhere


@pytest.fixture(autouse=True)
def fresh_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B as in a process of its own, quiet, and without an account."""
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(WandbSink, "silent_until", 0.0)
    yield
    wandb.finish()
    wandb.teardown()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "study" / "mean-none-12345678")
    folder.create()
    return folder


def tracker(folder: RunFolder, **node: Any) -> Tracker:
    """A tracker that was started."""
    identity = Identity(folder, "study", "train", ["mean", "none"])
    made = Tracker(folder, build_sinks({"wandb": {**NODE, **node}}, identity))
    made.start(SETTINGS)
    return made


def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a server that does not answer, with a key that nobody gave out."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")


@pytest.mark.slow
def test_an_offline_record_holds_all_of_a_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv("WANDB_MODE", "offline")
    Image.new("RGB", (8, 8)).save(folder.dev_curve)
    made = tracker(folder, tags=["mine"])
    made.log({"train/loss": 0.5, "train/lr": 0.1}, 1)
    made.log({"eval/a": 42.0}, 1)
    made.finish({"score": 42.0, "score_before": 30.0}, [folder.dev_curve])
    (record,) = read(folder.path)
    names = ("project", "run_group", "run_id", "display_name", "job_type", "tags", "resume")
    assert {name: record.run[name] for name in names} == {
        "project": "p",
        "run_group": "study",
        "run_id": "study-mean-none-12345678",
        "display_name": "mean-none-12345678",
        "job_type": "train",
        "tags": ["mine", "mean", "none"],
        "resume": True,
    }
    assert {name: record.config[name] for name in SETTINGS} == SETTINGS
    assert (record.summary["score"], record.summary["score_before"]) == (42, 30)
    assert (record.values("train/loss"), record.values("eval/a")) == ([(1, 0.5)], [(1, 42)])
    assert record.summary["figures/dev_curve.path"].endswith(".png")
    (files,) = record.artifacts.values()
    assert [(path.name, path.read_bytes()) for path in files] == [("dev_curve.png", folder.dev_curve.read_bytes())]
    assert record.exit_code == 0


@pytest.mark.slow
def test_a_resumed_run_is_one_w_and_b_run_with_one_whole_record(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    first = tracker(folder)
    for step in (1, 2, 3):
        first.log({"train/loss": 1 / step}, step)
    first.finish({}, failed=True)
    second = tracker(folder)
    second.keep(lambda step, _: step <= 2)
    second.log({"train/loss": 1 / 3}, 3)
    assert len(read(folder.path)) == 2  # should this attempt fail too, nothing is lost
    second.finish({"score": 42.0})
    (record,) = read(folder.path)
    assert record.run["run_id"] == "study-mean-none-12345678"
    assert [step for step, _ in record.values("train/loss")] == [1, 2, 3]
    assert (record.summary["score"], record.exit_code) == (42, 0)


@pytest.mark.slow
def test_a_failed_run_says_so(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker(folder).finish({}, failed=True)
    assert [record.exit_code for record in read(folder.path)] == [1]


@pytest.mark.slow
def test_the_environment_variables_of_wandb_come_first(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    given = {"MODE": "offline", "RUN_GROUP": "g", "NAME": "n", "JOB_TYPE": "j", "TAGS": "x,y", "DIR": str(elsewhere)}
    for name, value in given.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_RUN_ID", "one-for-all-the-jobs-of-a-sweep")
    tracker(folder).finish({})
    assert read(folder.path) == []
    (record,) = read(elsewhere)
    names = ("run_group", "display_name", "job_type", "tags", "run_id")
    assert [record.run[name] for name in names] == ["g", "n", "j", ["x", "y", "mean", "none"], wandb_id(folder)]


def wandb_id(folder: RunFolder) -> str:
    return Identity(folder, "study", "train").id


def test_the_project_is_that_of_the_environment(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    projects: list[str] = []
    monkeypatch.setattr(
        "embedllm.train.run_job", lambda config, *_: projects.append(config.logger["wandb"]["project"]) or {"score": 1}
    )
    with pytest.raises(KeyError):  # that is no result
        run("logger=wandb", "eval.tasks=[]")
    assert projects == ["ours"]


def test_disabled_means_that_nothing_happens(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    made = tracker(folder)
    made.log({"train/loss": 0.5}, 1)
    made.finish({"score": 1.0})
    assert made.sinks == {}
    assert [path.name for path in folder.path.iterdir()] == ["metrics.csv"]


def test_without_an_account_a_run_is_recorded_offline(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        tracker(folder).finish({"score": 42.0})
    assert "no account is set up" in caplog.text
    assert [record.summary["score"] for record in read(folder.path)] == [42]


@pytest.mark.slow
def test_a_server_that_does_not_answer_costs_seconds_once_and_no_record(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    online(monkeypatch)
    asked: list[Any] = []
    login = wandb.login
    monkeypatch.setattr(wandb, "login", lambda **arguments: asked.append(arguments) or login(**arguments))
    begin = time.monotonic()
    made = tracker(folder)
    made.log({"train/loss": 0.5}, 1)
    made.finish({"score": 42.0})
    assert time.monotonic() - begin < 60  # 11 s on an idle machine; W&B alone waits for minutes
    other = RunFolder(folder.path.with_name("last-none-12345678"))
    other.create()
    tracker(other).finish({"score": 43.0})
    assert len(asked) == 1
    assert caplog.text.count("W&B does not answer, so the run is recorded offline") == 1
    records = [record for path in (folder.path, other.path) for record in read(path)]
    assert [record.summary["score"] for record in records] == [42, 43]


def test_an_init_that_always_raises_leaves_the_run_alone(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("no W&B\nfor you")

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", broken)
    made = tracker(folder)
    made.log({"train/loss": 0.5}, 1)
    made.finish({"score": 1.0})
    assert made.sinks == {}
    assert caplog.text.count("failed and is left out from here on: RuntimeError: no W&B for you") == 1
    assert folder.metrics.read_text().splitlines()[1:] == ["1,train/loss,0.5"]


def test_an_init_that_raises_online_is_made_offline(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = wandb.init

    def broken(**arguments: Any) -> Any:
        if arguments["mode"] != "offline":
            raise wandb.errors.CommError("permission denied")
        return whole(**arguments)

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", broken)
    tracker(folder).finish({"score": 42.0})
    assert "recorded offline (permission denied)" in caplog.text
    assert [record.summary["score"] for record in read(folder.path)] == [42]


@pytest.mark.slow
def test_a_log_that_raises_in_the_middle_ends_the_w_and_b_run_only(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = tracker(folder)
    made.log({"train/loss": 0.5}, 1)

    def broken(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("connection lost")

    monkeypatch.setattr(type(wandb.run), "log", broken)
    for step in (2, 3):
        made.log({"train/loss": 0.5}, step)
    made.finish({"score": 1.0})
    assert caplog.text.count("connection lost") == 1
    assert wandb.run is None  # the next run would go on with it
    assert len(folder.metrics.read_text().splitlines()) == 4
    (record,) = read(folder.path)
    assert (len(record.values("train/loss")), record.exit_code) == (1, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_scores")
def test_a_sweep_offline_records_every_run_whole(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    training = ["trainer.max_steps=2", "trainer.batch_size=8", "trainer.warmup=1", "adapter.r=4"]
    code, printed = run("-m", "pooling=mean,last", "prompt=cluster", "logger=wandb", "study=sweep", *training)
    assert code == 0, printed
    assert run("-m", "prompt=none,cluster", "logger=wandb", "study=sweep")[0] == 0
    study = tmp_path / "runs" / "sweep"
    results = {path.name: RunFolder(path).read_result() for path in study.glob("*-*-*")}
    records: dict[str, Record] = {record.run["display_name"]: record for record in read(study)}
    report = records.pop("report")
    assert (report.run["run_group"], report.run["job_type"]) == ("sweep", "report")
    (files,) = report.artifacts.values()
    written = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert set(written) == {"report.html", "report.md", "results.csv", "table.tex"}
    assert all(name in written["results.csv"] for name in results)
    assert len(records) == len(results) == 4
    for name, result in results.items():
        assert result is not None
        record = records[name]
        trained = result["config"]["trainer"]["max_steps"] > 0
        assert (record.run["run_group"], record.run["run_id"]) == ("sweep", f"sweep-{name}")
        assert record.run["job_type"] == ("train" if trained else "score")
        chosen = [result["choices"][group] for group in ("pooling", "prompt", "model")]
        assert record.run["tags"] == chosen
        assert [record.config[group] for group in ("pooling", "prompt", "model")] == chosen
        assert (record.config["seed"], record.config["trainer/max_steps"]) == (0, 2 if trained else 0)
        assert record.summary["score"] == pytest.approx(result["score"])
        assert record.summary["eval/animals"] == pytest.approx(result["tasks"]["animals"]["main_score"])
        assert record.exit_code == 0
        if trained:
            assert record.summary["score_before"] == pytest.approx(result["score_before"])
            assert record.summary["before/animals"] == pytest.approx(result["tasks"]["animals"]["before"])
            costs = ("seconds", "tokens", "trained_parameters", "peak_memory_gb")
            assert min(record.summary[f"cost/{cost}"] for cost in costs) > 0
            assert [step for step, _ in record.values("train/loss")] == [1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_scores")
def test_a_scan_is_recorded_with_its_cells_along_the_depth(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, printed = run("scan.poolings=[mean]", "scan.every=1", "logger=wandb", "study=scan")
    assert code == 0, printed
    (record,) = read(tmp_path / "runs" / "scan")
    assert (record.run["job_type"], record.run["tags"]) == ("scan", ["none", "tiny"])
    assert [step for step, _ in record.values("scan/mean/animals")] == [1, 2]
    assert [step for step, _ in record.values("scan/mean-centred/animals")] == [1, 2]
    assert record.summary["cells"] == 4
    assert record.summary["score"] == record.summary["eval/animals"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_scores")
def test_a_run_ends_as_ever_when_the_server_is_away(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online(monkeypatch)
    code, printed = run("logger=wandb", "study=away")
    assert code == 0
    assert "W&B does not answer" in printed
    (path,) = (tmp_path / "runs" / "away").glob("*/result.json")
    assert [record.summary["score"] for record in read(path.parent)] == [RunFolder(path.parent).read_result()["score"]]
