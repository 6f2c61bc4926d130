"""metrics.csv, and sinks that may fail."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from embedllm import tracked
from embedllm.errors import InputError
from embedllm.runs import RunFolder
from embedllm.tracking import Identity, Tracker, build_sinks


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


@pytest.mark.parametrize("half", [b"1,lo", b"1,loss,1e-", b"1,loss,3.1", b"1,donn\xc3"])
def test_half_a_row_of_a_killed_run_is_dropped(tmp_path: Path, half: bytes) -> None:
    folder, sink = RunFolder(tmp_path), Memory()
    folder.metrics.write_bytes(b"step,metric,value\r\n0,loss,1.0\r\n" + half)
    Tracker(folder, {"sink": sink}).log({"loss": 2.0}, 1)
    assert rows(folder) == [(0, "loss", 1.0), (1, "loss", 2.0)]
    assert sink.logged == [(0, {"loss": 1.0}), (1, {"loss": 2.0})]


class Memory:
    """A sink that keeps what it is told, and may fail."""

    def __init__(self, remembers: bool = False, fails: bool = False) -> None:
        self.remembers, self.fails = remembers, fails
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished: list[dict[str, Any]] = []
        self.abandoned = 0

    def start(self, settings: Mapping[str, Any]) -> None:
        pass

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.logged.append((step, dict(metrics)))
        if self.fails:
            raise ConnectionError("service is down")

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path], failed: bool) -> None:
        self.finished.append(dict(summary))

    def abandon(self) -> None:
        self.abandoned += 1
        raise ConnectionError("service is still down")


def test_a_failing_sink_is_closed_and_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, failing, other = RunFolder(tmp_path), Memory(fails=True), Memory()
    tracker = Tracker(folder, {"bad": failing, "good": other})
    with caplog.at_level(logging.WARNING):
        tracker.log({"loss": 1.0}, 0)
        tracker.log({"loss": 0.5}, 1)
    tracker.finish({"score": 1})
    assert (len(failing.logged), failing.abandoned, failing.finished) == (1, 1, [])
    assert caplog.text.count("service is down") == 1
    assert len(other.logged) == len(rows(folder)) == 2
    assert other.finished == [{"score": 1}]


def test_earlier_attempts_are_told_to_sinks_that_do_not_remember_them(tmp_path: Path) -> None:
    folder, forgetful, remembering = RunFolder(tmp_path), Memory(), Memory(remembers=True)
    first = Tracker(folder)
    first.log({"eval/a": 30.0}, 0)
    for step in (1, 2, 3):
        first.log({"loss": 1 / step, "lr": 0.1}, step)
    second = Tracker(folder, {"a": forgetful, "b": remembering})
    second.start({})
    second.keep(lambda step, _: step <= 2)  # as when the training goes on from a checkpoint of step 2
    second.log({"loss": 1 / 3, "lr": 0.1}, 3)
    steps = [(1, {"loss": 1.0, "lr": 0.1}), (2, {"loss": 0.5, "lr": 0.1}), (3, {"loss": 1 / 3, "lr": 0.1})]
    assert forgetful.logged == [(0, {"eval/a": 30.0}), *steps]
    assert remembering.logged == steps[-1:]


def test_a_run_that_logs_nothing_new_is_told_all_the_same(tmp_path: Path) -> None:
    Tracker(RunFolder(tmp_path)).log({"loss": 1.0}, 1)
    sink = Memory()
    Tracker(RunFolder(tmp_path), {"a": sink}).finish({})
    assert sink.logged == [(1, {"loss": 1.0})]


@pytest.mark.parametrize("study", ["s", "my study: the 2nd, #1?", "s" * 200])
def test_an_id_is_stable_and_made_of_what_wandb_allows(tmp_path: Path, study: str) -> None:
    folder = RunFolder(tmp_path / "mean-none-12345678")
    name = Identity(folder, study, "train").id
    assert name == Identity(RunFolder(Path("elsewhere/mean-none-12345678")), study, "score").id
    assert len(name) <= 64
    assert not set(name) & set("/\\#?%: ")
    assert name != Identity(RunFolder(tmp_path / "mean-none-12345679"), study, "train").id


def test_a_readable_id_is_left_as_it_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "mean-none-12345678")
    assert Identity(folder, "study", "train").id == "study-mean-none-12345678"


PLAIN = {
    "study": "s",
    "seed": 3,
    "pooling": {"_target_": "embedllm.pooling.MeanPooling", "normalize": True},
    "prompt": {"template": "{text}"},
    "loss": {"temperature": 0.1},
    "trainer": {"max_steps": 2},
    "scan": {"poolings": []},
    "logger": {"wandb": {"project": "p"}},
    "dry_run": False,
}
CHOICES = {"pooling": "mean", "prompt": "none", "model": "tiny", "logger": "wandb", "loss": "infonce"}


def test_settings_are_flat_with_the_options_under_the_names_of_the_groups(tmp_path: Path) -> None:
    found = tracked.settings(PLAIN, CHOICES, RunFolder(tmp_path / "mean-none-12345678"))
    assert {name: found[name] for name in ("pooling", "prompt", "seed", "loss", "loss/temperature", "run_id")} == {
        "pooling": "mean",
        "prompt": "none",
        "seed": 3,
        "loss": "infonce",
        "loss/temperature": 0.1,
        "run_id": "12345678",
    }
    assert not [name for name in found if "." in name or "logger" in name or "dry_run" in name]
    assert not any(isinstance(value, dict) for value in found.values())


@pytest.mark.parametrize(("steps", "poolings", "job_type"), [(2, [], "train"), (0, [], "score"), (0, ["mean"], "scan")])
def test_the_type_of_a_job(tmp_path: Path, steps: int, poolings: list[str], job_type: str) -> None:
    plain = {**PLAIN, "trainer": {"max_steps": steps}, "scan": {"poolings": poolings}}
    found = tracked.identity(plain, CHOICES, RunFolder(tmp_path))
    assert found.job_type == job_type
    assert found.tags == (["none", "tiny"] if poolings else ["mean", "none", "tiny"])


def test_the_summary_has_scores_and_costs_and_nothing_that_is_unknown() -> None:
    train = {"steps": 2, "seconds": 1.5, "tokens": 80, "trainable_parameters": 7, "peak_memory_gb": 0.5}
    more = {"positives": "column", "selection": {"score": 9.0, "steps": [1, 2], "curve": {"0": 8.0}}}
    result = {
        "score": 42.0,
        "score_before": 0.0,
        "tasks": {"a": {"main_score": 42.0, "before": 0.0}, "b": {"error": "away"}},
        "train": {**train, **more, "pairs_per_second": None},
    }
    assert tracked.summary(result) == {
        "score": 42.0,
        "score_before": 0.0,
        "gain": 42.0,
        "eval/a": 42.0,
        "before/a": 0.0,
        "gain/a": 42.0,
        "cost/seconds": 1.5,
        "cost/tokens": 80,
        "cost/trained_parameters": 7,
        "cost/peak_memory_gb": 0.5,
        "train/steps": 2,
        "dev/score": 9.0,
        "dev/step": 2,
    }


def test_a_model_that_is_scored_as_it_is_cost_nothing() -> None:
    found = tracked.summary({"score": None, "score_before": None, "tasks": {}, "train": None})
    assert found == {"cost/seconds": 0, "cost/tokens": 0, "cost/trained_parameters": 0}


def test_a_logger_that_cannot_be_built_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger.__init__", absent)
    node = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": ""}
    with pytest.raises(InputError, match=r"logger.tensorboard: Neither .* pip install 'embedllm\[tensorboard\]'"):
        build_sinks({"tensorboard": node}, Identity(RunFolder(tmp_path), "s", "train"))


def test_tensorboard_has_settings_and_scores_for_its_hparams_page(tmp_path: Path) -> None:
    hparams = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    node = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": "", "version": "tensorboard"}
    for attempt in range(2):  # the second goes on from step 1
        tracker = Tracker(RunFolder(tmp_path), build_sinks({"t": node}, Identity(RunFolder(tmp_path), "s", "train")))
        tracker.start({"pooling": "mean", "seed": 0, "loss/temperature": 0.1, "eval/tasks": ["a", "b"], "none": None})
        tracker.keep(lambda step, _: step < 1)
        if attempt == 0:
            tracker.log({"eval/a": 30.0}, 0)
        tracker.log({"train/loss": 0.5}, 1)
        tracker.finish({"score": 42.0, "score_before": 30.0} if attempt else {}, failed=not attempt)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/a")] == [(0, 30.0)]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 0.5)]
    content = {tag: events.SummaryMetadata(tag).plugin_data.content for tag in events.PluginTagToContent("hparams")}
    start = hparams.parse_session_start_info_plugin_data(content["_hparams_/session_start_info"])
    assert start.hparams["pooling"].string_value == "mean"
    assert start.hparams["loss/temperature"].number_value == pytest.approx(0.1)
    names = hparams.parse_experiment_plugin_data(content["_hparams_/experiment"]).metric_infos
    assert {info.name.tag for info in names} == {"score", "score_before"}
    assert {tag: events.Scalars(tag)[-1].value for tag in ("score", "score_before")} == {
        "score": 42.0,
        "score_before": 30.0,
    }
