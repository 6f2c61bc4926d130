"""What became of a study, read from its folder; and ``embedllm status``."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from made_studies import close

from embedllm.cli import main
from embedllm.run_lock import RunLock
from embedllm.runs import RunFolder
from embedllm.study import PlannedRun, RunState, StudyFolder, time_left

DONE = {"tasks": {"a": {"main_score": 1.0}}, "seconds": 60.0}


def planned(*names: str, tasks: tuple[str, ...] = ("a",)) -> list[PlannedRun]:
    return [PlannedRun(name, [f"pooling={name}"], list(tasks), "tiny") for name in names]


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    folder.write_plan(["pooling=x"], planned("done", "failed", "crashed", "stopped", "never", "lacking"))
    write(folder, "done", "result.json", json.dumps(DONE))
    write(folder, "failed", "error.txt", "model.layers: 99 is not possible\n")
    write(folder, "crashed", "error.txt", "Traceback (most recent call last):\n  File\nRuntimeError: the sky fell\n")
    write(folder, "stopped", "config.yaml", "seed: 0\n")
    write(folder, "lacking", "result.json", json.dumps({"tasks": {"b": {"main_score": 1.0}}}))
    return folder


def write(study: StudyFolder, run: str, file: str, text: str) -> None:
    (study.path / run).mkdir(exist_ok=True, parents=True)
    (study.path / run / file).write_text(text)


def states(study: StudyFolder) -> dict[str, tuple[str, str]]:
    return {state.name: (state.state, state.detail) for state in study.states()[0]}


def test_each_state_is_told_from_the_others(study: StudyFolder) -> None:
    assert states(study) == {
        "done": ("done", ""),
        "failed": ("failed", "model.layers: 99 is not possible"),
        "crashed": ("failed", "RuntimeError: the sky fell"),
        "stopped": ("missing", "stopped before it was done; started again, it goes on"),
        "never": ("missing", ""),
        "lacking": ("missing", "not scored on a"),
    }


def test_a_run_that_is_being_made_is_running_whatever_it_was(study: StudyFolder) -> None:
    lock = RunLock(RunFolder(study.path / "failed").lock)
    lock.acquire()
    assert states(study)["failed"][0] == "running"
    owner = {**json.loads(lock.path.read_text()), "since": time.time() - 100}
    lock.path.write_text(json.dumps(owner))  # taken long ago, and touched now
    write(study, "failed", "config.yaml", "seed: 0\n")
    (seconds,) = [state.seconds for state in study.states()[0] if state.name == "failed"]
    assert seconds is not None
    assert 100 <= seconds < 150
    lock.path.write_text(json.dumps({**owner, "since": lock.owner.since}))
    lock.release()
    assert states(study)["failed"][0] == "failed"


def test_plans_of_several_sweeps_add_up_and_the_same_sweep_counts_once(study: StudyFolder) -> None:
    study.write_plan(["pooling=x"], planned("done", "failed", "crashed", "stopped", "never", "lacking"))
    study.write_plan(["pooling=y"], planned("never", "new", tasks=("c",)))
    runs = {run.name: run.tasks for run in study.plans()[0]}
    assert list(runs) == ["done", "failed", "crashed", "stopped", "never", "lacking", "new"]
    assert runs["never"] == ["a", "c"]
    assert len(list(study.path.glob("plan-*.json"))) == 2


def test_a_run_that_no_sweep_planned_is_there_too(study: StudyFolder) -> None:
    write(study, "alone", "result.json", json.dumps(DONE))
    (study.path / "notes").mkdir()
    assert states(study)["alone"] == ("done", "")
    assert "notes" not in states(study)


def test_a_run_whose_folder_nobody_may_read_has_failed(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    close(study.path / "done", monkeypatch)
    assert states(study)["done"] == ("failed", "its folder cannot be read (Permission denied)")


@pytest.mark.parametrize("file", [".lock", "error.txt"])
def test_a_file_that_is_no_text_stops_no_status(study: StudyFolder, file: str) -> None:
    (study.path / "never").mkdir()
    (study.path / "never" / file).write_bytes(b"\xff\xfe\x80")
    assert states(study)["never"][0] == ("running" if file == ".lock" else "failed")


@pytest.mark.parametrize(
    "content",
    [
        '{"runs": [{"name": 5, "settings": null}]}',
        "",
        "{",
        "[]",
        '{"runs": 3}',
        '{"runs": [{"nme": "x"}]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_plan_is_named_and_the_rest_still_told(study: StudyFolder, content: str) -> None:
    (study.path / "plan-00000000.json").write_text(content)
    found, damaged = study.states()
    assert len(found) == 6
    assert len(damaged) == 1
    assert "plan-00000000.json" in damaged[0]


@pytest.mark.parametrize("content", ["", "{", '{"tasks": 3}', '{"tasks": {"a": null}}'])
def test_a_damaged_result_is_missing_and_says_why(study: StudyFolder, content: str) -> None:
    write(study, "done", "result.json", content)
    state, detail = states(study)["done"]
    assert state == "missing"
    assert detail.startswith("result.json is damaged")


def test_a_time_that_is_no_number_is_not_known(study: StudyFolder) -> None:
    write(study, "done", "result.json", json.dumps({**DONE, "seconds": "long"}))
    assert main(["status", "--all", str(study.path)]) == 0
    assert time_left(study.states()[0]) is None


def test_a_task_without_a_score_fails_its_run(study: StudyFolder) -> None:
    write(study, "done", "result.json", json.dumps({"tasks": {"a": {"error": "no Hub"}}}))
    assert states(study)["done"] == ("failed", "a: no Hub")


def test_a_study_that_was_moved_is_still_known(study: StudyFolder, tmp_path: Path) -> None:
    before = states(study)
    shutil.move(study.path, tmp_path / "elsewhere")
    assert states(StudyFolder(tmp_path / "elsewhere")) == before


def test_time_left_is_that_of_runs_of_the_same_kind() -> None:
    done = [RunState("a", "done", seconds=10, kind="short"), RunState("b", "done", seconds=100, kind="long")]
    waiting = [RunState("c", "missing", kind="short"), RunState("d", "failed", kind="long")]
    assert time_left(done + waiting) == 110
    assert time_left([*done, *waiting, *(RunState(n, "running", seconds=40, kind="long") for n in "ef")]) == 115
    assert time_left([RunState("d", "missing")]) is None
    assert time_left(done) == 0


def test_settings_that_are_wrong_take_no_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = StudyFolder(tmp_path / "study")
    study.write_plan(["x"], [*planned("done"), PlannedRun(None, ["loss.temperature=0"], kind="tiny", error="not 0")])
    write(study, "done", "result.json", json.dumps(DONE))
    assert time_left(study.states()[0]) == 0
    assert main(["status", str(study.path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["  failed  loss.temperature=0  not 0"]


def test_status_says_how_far_a_study_is(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(study.path)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == f"{study.path}: 1 done, 0 running, 2 failed, 3 missing"
    assert "failed  crashed  RuntimeError: the sky fell" in printed
    assert printed.splitlines()[-1] == "time left: about 5 min with 1 run at a time"
    assert main(["status", str(study.path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["done"], found["missing"], found["seconds_left"]) == (1, 3, 300)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_study_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["status", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("STUDY: ")
    assert error.count("\n") == 1
