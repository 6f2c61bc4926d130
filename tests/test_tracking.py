"""metrics.csv, and loggers that may fail."""

import csv
import logging
from pathlib import Path
from typing import Any

import pytest

from embedllm.runs import RunFolder
from embedllm.tracking import Tracker, build_loggers


def rows(folder: RunFolder) -> list[tuple[int, str, float]]:
    with folder.metrics.open(newline="") as file:
        return [(int(row["step"]), row["metric"], float(row["value"])) for row in csv.DictReader(file)]


def test_values_come_back_to_the_last_bit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    Tracker(folder).log({"a/b": 1 / 3, "c,d": 2}, step=7)
    assert rows(folder) == [(7, "a/b", 1 / 3), (7, "c,d", 2.0)]


def test_rows_of_an_earlier_attempt_are_kept_until_the_resumed_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    tracker = Tracker(folder)
    for step in range(3):
        tracker.log({"loss": 1.0}, step)
    resumed = Tracker(folder)
    assert [row[0] for row in rows(folder)] == [0, 1, 2]
    resumed.keep(lambda step, _: step <= 1)
    assert [row[0] for row in rows(folder)] == [0, 1]


def test_half_a_row_of_a_killed_run_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_text("step,metric,value\r\n0,loss,1.0\r\n1,lo")
    Tracker(folder).log({"loss": 2.0}, 1)
    assert rows(folder) == [(0, "loss", 1.0), (1, "loss", 2.0)]


class Failing:
    """A logger whose service is down."""

    def __init__(self) -> None:
        self.calls = 0

    def log_metrics(self, *_: Any) -> None:
        self.calls += 1
        raise ConnectionError("service is down")


def test_a_failing_logger_is_dropped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    failing = Failing()
    tracker = Tracker(folder, {"bad": failing})
    with caplog.at_level(logging.WARNING):
        tracker.log({"loss": 1.0}, 0)
        tracker.log({"loss": 0.5}, 1)
    tracker.finish({})
    assert failing.calls == 1
    assert caplog.text.count("service is down") == 1
    assert len(rows(folder)) == 2


def test_wandb_run_ids_are_stable_so_that_a_resumed_job_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "p"}
    folder = RunFolder(tmp_path / "mean-none-12345678")
    built = [build_loggers({"wandb": node}, folder, "study")["wandb"] for _ in range(2)]
    assert [logger.version for logger in built] == ["study-mean-none-12345678"] * 2
