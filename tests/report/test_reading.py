"""A study's folder, whole and damaged."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import yaml
from made_studies import close, made_config, make_run

from embedllm.errors import InputError
from embedllm.report.groups import tabulate
from embedllm.report.notices import notices
from embedllm.report.plan import Planned
from embedllm.report.reading import read_study
from embedllm.runs import RunFolder
from embedllm.study import PlannedRun, StudyFolder


def said(study: Path) -> list[str]:
    return notices(tabulate(read_study(study)))


def fail(study: Path, name: str, error: str, **settings: object) -> None:
    folder = RunFolder(study / name)
    folder.create()
    folder.error.write_text(error)
    if settings:
        folder.config.write_text(yaml.safe_dump(made_config(**settings)))


def test_a_whole_study_has_nothing_to_say(study: Path) -> None:
    assert said(study) == []
    assert len(read_study(study).runs) == 8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"tasks": {"a"', "result.json is no JSON"),
        ("[" * 100_000, "result.json is no JSON"),
        ("[]", "result.json has no 'config'"),
        ('{"config": {}, "choices": {}, "tasks": {}}', "result.json lacks settings ('model')"),
        ('{"config": {}, "choices": [], "tasks": {}}', "result.json has no 'choices'"),
    ],
)
def test_a_damaged_result_is_named_and_the_others_are_reported(study: Path, content: str, reason: str) -> None:
    broken = sorted(study.iterdir())[0]
    (broken / "result.json").write_text(content)
    found = read_study(study)
    assert [(run.name, run.state, run.reason) for run in found.absent] == [(broken.name, "unreadable", reason)]
    assert len(found.runs) == 7
    assert said(study) == [f"1 run has a damaged result: {broken.name}"]


@pytest.mark.parametrize("score", ["high", float("nan"), None, True])
def test_a_score_that_is_no_number_is_no_score(study: Path, score: object) -> None:
    path = sorted(study.iterdir())[0] / "result.json"
    result = json.loads(path.read_text())
    result["tasks"]["animals"]["main_score"] = score
    path.write_text(json.dumps(result))
    run = read_study(study).runs[0]
    assert run.score("animals") is None
    assert run.mean(["animals", "Twenty"]) is None
    assert run.mean(["Twenty"]) == run.score("Twenty")
    assert said(study) == [f"1 run lacks the score of a task: {run.name}"]


def test_failed_unfinished_and_missing_runs_are_counted_apart(study: Path) -> None:
    fail(study, "last-none-00000001", "Traceback\n  File\nRuntimeError: no memory\n", pooling="last", seed=2)
    RunFolder(study / "eos-none-00000002").create()
    RunFolder(study / "eos-none-00000002").config.write_text(yaml.safe_dump(made_config("eos")))
    (study / "report").mkdir()
    plan = [Planned("last-none-00000001"), Planned("max-none-00000003", made_config("max"), {"pooling": "max"})]
    found = read_study(study, lambda folder: (plan, []))
    assert {run.name: (run.state, run.reason) for run in found.absent} == {
        "last-none-00000001": ("failed", "RuntimeError: no memory"),
        "eos-none-00000002": ("unfinished", "it has settings and no result yet"),
        "max-none-00000003": ("missing", ""),
    }


def test_a_run_that_a_process_is_at_work_on_is_running_until_it_lets_go(study: Path) -> None:
    fail(study, "last-none-00000001", "RuntimeError: no memory", pooling="last", seed=2)
    new, broken = RunFolder(study / "eos-none-00000002"), RunFolder(sorted(study.iterdir())[0])
    new.create()
    broken.result.write_text("{")
    names = ["last-none-00000001", new.path.name, broken.path.name]
    with RunFolder(study / names[0]).locked(), new.locked(), broken.locked():
        found = {run.name: (run.state, run.reason) for run in read_study(study).absent}
        assert found == {name: ("running", f"a process on {socket.gethostname()} is at work on it") for name in names}
        assert said(study)[0].startswith("3 runs are running: ")
        (row,) = [group for group in tabulate(read_study(study)).groups if group.settings == ("last", "none")]
        assert (len(row.runs), row.size) == (2, 3)
    assert {run.state for run in read_study(study).absent} == {"failed", "unreadable"}


def test_a_failed_run_is_counted_in_the_row_of_its_settings(study: Path) -> None:
    fail(study, "last-none-00000001", "RuntimeError: no memory", pooling="last", seed=2)
    table = tabulate(read_study(study))
    (row,) = [group for group in table.groups if group.settings == ("last", "none")]
    assert (len(row.runs), row.size) == (2, 3)
    assert str(row.cell(["animals"])).endswith("(2 of 3)")


def test_settings_that_only_failed_have_a_row_without_scores(study: Path) -> None:
    fail(study, "max-cluster-00000001", "RuntimeError: no memory", pooling="max", prompt="cluster")
    table = tabulate(read_study(study))
    assert table.groups[-1].settings == ("max", "cluster")
    assert str(table.groups[-1].cell(table.tasks)) == "-"


def test_a_renamed_study_and_a_renamed_run_are_said_to_be(study: Path, tmp_path: Path) -> None:
    study.rename(tmp_path / "final")
    run = sorted((tmp_path / "final").iterdir())[0]
    run.rename(run.with_name("mine"))
    identity = run.name.rpartition("-")[2]
    assert said(tmp_path / "final") == [
        f"mine was renamed: its result is of run {identity}",
        "the folder final was renamed or copied: its runs are of study made",
    ]


def test_a_copied_run_counts_once(study: Path) -> None:
    run = sorted(study.iterdir())[0]
    shutil.copytree(run, run.with_name("a copy"))
    assert len(read_study(study).runs) == 8
    assert said(study) == [f"a copy is the same run as {run.name}, and is left out"]


def test_two_studies_under_one_name_are_told_apart(study: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "other", "mean", "none", 5)
    shutil.copytree(next((tmp_path / "other").iterdir()), study / "mean-none-other")
    table = tabulate(read_study(study))
    assert "the folder holds runs of 2 studies: made (8 runs), other (1 run); the column study tells them apart" in (
        notices(table)
    )
    assert table.columns[-1].name == "study"
    assert sorted(len(group.runs) for group in table.groups) == [1, 2, 2, 2, 2]


def test_scores_on_other_documents_do_not_mix(study: Path) -> None:
    make_run(study, "mean", "none", 2, eval__max_documents=64)
    table = tabulate(read_study(study))
    assert table.columns[-1].name == "documents"
    assert sorted(table.columns[-1].options) == ["at most 128", "at most 64"]
    assert len(table.groups) == 5
    assert notices(table) == [
        f"{task} was scored on 2 different sets of documents; the column documents tells them apart"
        for task in ("animals", "Twenty")
    ]


def test_a_file_of_the_same_name_with_other_contents_does_not_mix(study: Path) -> None:
    path = sorted(study.iterdir())[0] / "result.json"
    result = json.loads(path.read_text())
    result["tasks"]["animals"]["of"]["sha256"] = "other"
    path.write_text(json.dumps(result))
    table = tabulate(read_study(study))
    assert sorted(table.columns[-1].options) == ["at most 128, files A", "at most 128, files B"]
    assert len(table.groups) == 5


def test_mixed_versions_are_said(study: Path) -> None:
    path = sorted(study.iterdir())[0] / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "versions": {"torch": "2.12.0", "mteb": "2.26.24"}}))
    assert said(study) == [
        "versions are mixed, which can move scores: torch 2.12.0 (1 run), 2.13.0 (7 runs)",
    ]


def test_runs_of_equal_settings_and_seed_are_no_seeds(study: Path) -> None:
    run = sorted(study.iterdir())[0]
    result = json.loads((run / "result.json").read_text())
    other = RunFolder(study / "last-cluster-ffffffff")  # as when the file of data.path changed in between
    other.create()
    other.write_result({**result, "run_id": "ffffffff"})
    assert said(study) == [
        f"{run.name}, {other.path.name} have equal settings and seed: a file or model that they name has changed in "
        "between, so their spread is not that of seeds"
    ]


def test_different_tasks_give_no_means(study: Path) -> None:
    make_run(study, "max", "none", scores={"animals": 90.0}, eval__tasks=["animals.csv"])
    table = tabulate(read_study(study))
    assert table.groups[-1].settings == ("max", "none")
    assert table.groups[-1].cell(table.tasks).mean is None
    assert notices(table) == ["runs were scored on different tasks; a mean is only given where a run has all of them"]


def test_a_task_that_was_scored_later_is_beside_the_mean(study: Path) -> None:
    path = sorted(study.iterdir())[0] / "result.json"
    result = json.loads(path.read_text())
    result["tasks"]["later"] = {"main_score": 99.0, "of": {"sha256": "cd"}}
    path.write_text(json.dumps(result))
    table = tabulate(read_study(study))
    assert list(table.scored) == ["later", "animals", "Twenty", "mean"]
    assert table.scored["mean"] == ("animals", "Twenty")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "STUDY: there is no folder '{}'; give that of a study, such as runs/mine"),
        (lambda path: path.mkdir(), "STUDY: '{}' holds no run; give the folder of a study, such as runs/mine"),
        (
            lambda path: (path / "scan").mkdir(parents=True) or (path / "scan" / "scan.json").write_text("{}"),
            "STUDY: '{}' holds 1 scan, which is ranked in ranking.csv, and no run; give the folder of a study, such as "
            "runs/mine",
        ),
        (
            lambda path: make_run(path.parent, "mean").path.rename(path),
            "STUDY: '{}' is a run; give the folder that it is in",
        ),
    ],
)
def test_what_is_no_study_is_one_sentence(tmp_path: Path, make: object, sentence: str) -> None:
    path = tmp_path / "parent" / "study"
    path.parent.mkdir()
    make(path)  # type: ignore[operator]
    with pytest.raises(InputError) as error:
        read_study(path)
    assert str(error.value).startswith(sentence.format(path))


def test_what_a_plan_of_the_study_names_is_missing_until_it_is_made(study: Path) -> None:
    done = sorted(study.iterdir())[0].name
    scan = RunFolder(study / "scan-cluster-00000004")
    scan.create()
    scan.scan.write_text("{}")
    runs = [PlannedRun(name, []) for name in (done, scan.path.name, "max-none-00000003")]
    refused = [PlannedRun(None, [f"data.path={path}"], error="no such file") for path in ("a/b.csv", "/c/b.csv")]
    StudyFolder(study).write_plan(["pooling=max"], [*runs, *refused])
    assert {run.name: (run.state, run.reason) for run in read_study(study).absent} == {
        "max-none-00000003": ("missing", ""),
        "data.path=a/b.csv": ("failed", "no such file"),
        "data.path=/c/b.csv": ("failed", "no such file"),
    }


def test_a_planned_run_that_nobody_began_is_counted_in_the_row_of_its_settings(study: Path) -> None:
    choices = {"pooling": "last", "prompt": "none"}
    left = PlannedRun("last-none-00000001", ["seed=2"], config=made_config("last", seed=2), choices=choices)
    StudyFolder(study).write_plan(["seed=0,1,2"], [left])
    table = tabulate(read_study(study))
    (row,) = [group for group in table.groups if group.settings == ("last", "none")]
    assert (len(row.runs), row.size) == (2, 3)
    assert str(row.cell(["animals"])).endswith("(2 of 3)")
    assert table.unplaced == ()


def test_a_plan_that_cannot_be_read_is_named(study: Path) -> None:
    (study / "plan-00000000.json").write_text('{"runs": [')
    (notice,) = said(study)
    assert notice.startswith(f"runs that were planned may be lacking: {study / 'plan-00000000.json'}: not a plan")


def test_a_run_whose_folder_nobody_may_read_is_named_and_the_others_are_reported(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = sorted(study.iterdir())[0]
    close(closed, monkeypatch)
    found = read_study(study)
    reason = "result.json cannot be read (Permission denied)"
    assert [(run.name, run.state, run.reason) for run in found.absent] == [(closed.name, "unreadable", reason)]
    assert len(found.runs) == 7


@pytest.mark.parametrize("file", [".lock", "error.txt"])
def test_a_file_of_a_run_that_is_no_text_stops_no_report(study: Path, file: str) -> None:
    run = sorted(study.iterdir())[0]
    (run / "result.json").unlink()
    (run / file).write_bytes(b"\xff\xfe\x80")
    assert [(run.name, run.state) for run in read_study(study).absent] == [
        (run.name, "running" if file == ".lock" else "failed")
    ]
