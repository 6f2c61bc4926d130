"""``embedllm evaluate`` and ``embedllm encode``."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from embedllm import Embedder
from embedllm.cli import main
from embedllm.eval.specs import parse_specs
from embedllm.runs import RunFolder
from embedllm.scoring import documents_of


@pytest.fixture
def run_folder(tiny_path: Path, tmp_path: Path) -> Path:
    """A finished run with one score."""
    folder = tmp_path / "run"
    Embedder.from_pretrained(str(tiny_path), template="Text: {text}").save(folder / "model")
    result = {"tasks": {"old": {"main_score": 50.0}}, "score": 50.0, "status": "done"}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def sts(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("sentence1,sentence2,score\na cat,a dog,1\na cat,the cat,4\nsky,car,0\nblue,red,2\n")
    return path


def test_encode_row_i_is_line_i(tiny_path: Path, tmp_path: Path) -> None:
    lines = ["second\u2028line", "", "carriage\rreturn", "x", " "]
    (tmp_path / "in.txt").write_bytes("\n".join(lines).encode() + b"\n")
    assert main(["encode", str(tiny_path), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.npy")]) == 0
    vectors = np.load(tmp_path / "out.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, Embedder.load(tiny_path).encode(lines), atol=1e-6)


def test_encode_writes_the_dtype_that_was_asked_for(tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\nb")
    out = tmp_path / "out.npy"
    assert main(["encode", str(tiny_path), str(tmp_path / "in.txt"), "-o", str(out), "--dtype", "float16"]) == 0
    assert (np.load(out).dtype, np.load(out).shape) == (np.float16, (2, 32))


def test_evaluate_adds_scores_to_a_run(run_folder: Path, sts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_folder), "--tasks", str(sts)]) == 0
    result = json.loads((run_folder / "result.json").read_text())
    score = result["tasks"]["pairs"]["main_score"]
    assert result["tasks"]["old"] == {"main_score": 50.0}
    assert result["score"] == 50.0
    assert capsys.readouterr().out == f"pairs\t{score:.2f}\n"


def test_evaluate_scores_a_decoder_and_writes_nothing(
    tiny_path: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["evaluate", str(tiny_path), "--tasks", str(sts)]) == 0
    assert capsys.readouterr().out.startswith("pairs\t")
    assert sorted(tmp_path.rglob("*")) == before


def test_evaluate_prints_a_mean_with_the_tasks_it_is_over(
    run_folder: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.csv"
    again.write_text(sts.read_text() + "red,sea,5\n")
    assert main(["evaluate", str(run_folder), "--tasks", str(sts), str(again)]) == 0
    *scores, mean, tasks = capsys.readouterr().out.splitlines()
    assert float(mean.split("\t")[1]) == pytest.approx(
        np.mean([float(line.split("\t")[1]) for line in scores]), abs=0.01
    )
    assert tasks.startswith("tasks: custom (2 tasks, mteb ")


def test_evaluate_names_the_versions_that_made_the_scores_and_not_the_one_that_is_installed(
    run_folder: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.csv"
    again.write_text(sts.read_text() + "red,sea,5\n")
    command = ["evaluate", str(run_folder), "--tasks", str(sts), str(again)]
    assert main(command) == 0
    result = json.loads((run_folder / "result.json").read_text())
    assert result["tasks"]["pairs"]["mteb"] == version("mteb")
    del result["tasks"]["pairs"]["mteb"]  # as older results are
    result["tasks"]["again"]["mteb"] = "1.9"
    (run_folder / "result.json").write_text(json.dumps({**result, "versions": {"mteb": "1.8"}}))
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tasks: custom (2 tasks, mteb 1.8 and 1.9)"


def test_a_score_on_other_documents_takes_no_place_of_a_runs_own(
    run_folder: Path, sts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["evaluate", str(run_folder), "--tasks", str(sts)]) == 0
    kept = [(run_folder / name).read_bytes() for name in ("result.json", "evidence/after/pairs.npz")]
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / sts.name
    other.write_text(sts.read_text() + "red,sea,5\n")
    for more in ([str(other)], [str(sts), "--max-documents", "20"]):
        assert main(["evaluate", str(run_folder), "--tasks", *more]) == 0
        assert "has a score of its own on other documents of pairs" in caplog.text
        caplog.clear()
    assert [(run_folder / name).read_bytes() for name in ("result.json", "evidence/after/pairs.npz")] == kept


@pytest.mark.parametrize("kept", ["digests", "paths"])
def test_a_run_is_not_scored_on_what_picked_its_weights(
    run_folder: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: str
) -> None:
    result = json.loads((run_folder / "result.json").read_text())
    result["config"] = {"eval": {"dev": [str(sts), "STS12"], "select": True}}
    known = {"pairs": documents_of(parse_specs([str(sts)])[0], 5), "STS12": {"sha256": None}}
    result["train"] = {"selection": {"of": known} if kept == "digests" else {}}
    (run_folder / "result.json").write_text(json.dumps(result))
    copy = tmp_path / "copy.csv"
    copy.write_bytes(sts.read_bytes())
    for task in (str(copy), "STS12"):
        assert main(["evaluate", "tfidf", str(run_folder), "--tasks", task]) == 2
        assert capsys.readouterr().err == (
            f"--tasks: {task!r} picked the weights of {str(run_folder)!r}, and its score is no test of them; "
            "leave it out, or add --allow-overlap\n"
        )
    assert main(["evaluate", str(run_folder), "--tasks", str(copy), "--allow-overlap"]) == 0
    result["config"]["eval"]["select"] = False
    (run_folder / "result.json").write_text(json.dumps(result))
    assert main(["evaluate", str(run_folder), "--tasks", str(copy)]) == 0


def test_evaluate_keeps_each_score_as_soon_as_it_is_known(
    run_folder: Path, sts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second.csv"
    second.write_text(sts.read_text())
    calls: list[int] = []
    encode = Embedder.encode

    def interrupted(self: Embedder, texts: list[str], **options: object) -> np.ndarray:
        calls.append(len(texts))
        if len(calls) == 3:  # the second task
            raise KeyboardInterrupt
        return encode(self, texts)

    monkeypatch.setattr(Embedder, "encode", interrupted)
    assert main(["evaluate", str(run_folder), "--tasks", str(sts), str(second)]) == 130
    assert set(json.loads((run_folder / "result.json").read_text())["tasks"]) == {"old", "pairs"}
    assert (run_folder / "evidence" / "after" / "pairs.npz").is_file()
    calls.clear()
    calls += [0, 0, 0]
    assert main(["evaluate", str(run_folder), "--tasks", str(sts), str(second)]) == 0
    assert len(calls) == 5  # both sides of the second task only


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("config.yaml", "is not finished, so it has no model yet; start it again with the same command"),
        ("scan.json", "is a scan, which has scores and no model; give a run"),
    ],
)
def test_a_run_without_a_model_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, sentence: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / file).write_text("{}")
    (tmp_path / "in.txt").write_text("a")
    run = str(tmp_path / "run")
    for command in (["export", run, str(tmp_path / "out")], ["encode", run, str(tmp_path / "in.txt"), "-o", "o.npy"]):
        assert main(command) == 2
        assert capsys.readouterr().err == f"RUN: {run!r} {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_an_export_is_not_taken_for_a_bare_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = str(tmp_path / "exported")
    assert main(["export", "embedded:tiny", exported]) == 0
    (tmp_path / "in.txt").write_text("a")
    capsys.readouterr()
    assert main(["encode", exported, str(tmp_path / "in.txt"), "-o", str(tmp_path / "o.npy")]) == 2
    assert f"RUN: {exported!r} is a folder of sentence-transformers" in capsys.readouterr().err
    assert not (tmp_path / "o.npy").exists()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["encode", "./nowhere", "in.txt", "-o", "out.npy"], "model.name: "),
        (["encode", "embedded:tiny", "missing.txt", "-o", "out.npy"], "'missing.txt' cannot be read"),
        (["encode", "embedded:tiny", "empty.txt", "-o", "out.npy"], "'empty.txt' is empty"),
        (
            ["encode", "embedded:tiny", "binary.txt", "-o", "out.npy"],
            "'binary.txt' holds a zero byte (at byte 1, from 0)",
        ),
        (
            ["encode", "embedded:tiny", "latin.txt", "-o", "out.npy"],
            "'latin.txt' is not UTF-8 text (found 0xe9 at byte 3, from 0)",
        ),
        (["encode", "embedded:tiny", "in.txt", "-o", "folder.npy"], "--output: 'folder.npy' is a folder"),
        (["encode", "embedded:tiny", "in.txt", "-o", "out.txt"], "--output: 'out.txt' does not end in .npy"),
        (["encode", "embedded:tiny", "in.txt", "-o", "no/out.npy"], "--output: the folder of 'no/out.npy'"),
        (["evaluate", "./nowhere", "--tasks", "nope.csv"], "--tasks: 'nope.csv': no file"),
        (
            ["evaluate", "embedded:tiny", "--tasks", "TwentyNewsgroup"],
            "--tasks: 'TwentyNewsgroup' is no MTEB task; the",
        ),
        (["evaluate", "embedded:tiny", "--suite", "mteb"], "suite: there is no 'mteb'; allowed: embedded, "),
        (["evaluate", "embedded:tiny", "--mirror", "nowhere"], "eval.mirror: no folder at 'nowhere'"),
        (["evaluate", "embedded:tiny", "--suite", "sts", "--mirror", "."], "eval.mirror: "),
        (["evaluate", "embedded:tiny", "--max-documents", "1"], "--max-documents: 1 is not allowed"),
        (["evaluate", "embedded:tiny", "--sample", "1"], "--sample: no such option; --help after the command lists"),
        (["encode", "runs/a", "runs/b", "in.txt", "-o", "o.npy"], "too many arguments: 'in.txt' left over; if a"),
        (["export", "runs/a", "runs/b", "out"], "too many arguments: 'out' left over; if a pattern such as"),
        (["map", "runs/a", "runs/b", "-o", "map.png"], "too many arguments: 'runs/b' left over; if a pattern"),
        (["compare", "runs/a", "runs/b", "c", "d"], "too many arguments: 'c', 'd' left over; if a pattern such"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a\nb\n")
    Path("empty.txt").write_text("")
    Path("binary.txt").write_bytes(b"\xff\x00\x01")
    Path("latin.txt").write_bytes("café".encode("latin-1"))
    Path("folder.npy").mkdir()
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True])
def test_a_model_that_is_not_there_is_found_out_without_mteb(
    run_folder: Path, sts: Path, tmp_path: Path, saved: bool
) -> None:
    manifest = run_folder / "model" / "embedllm.json"
    manifest.write_text(manifest.read_text().replace(json.loads(manifest.read_text())["model"]["name"], "./gone"))
    model = str(run_folder) if saved else "./gone"
    check = "import sys; from embedllm.cli import main; print(main(sys.argv[1:]), 'mteb' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check, "evaluate", model, "--tasks", str(sts)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("model.name: no file or folder './gone'; give ")


def test_scores_that_a_run_holds_need_neither_its_model_nor_mteb(
    run_folder: Path, sts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run_folder), "--tasks", str(sts)]) == 0
    first = capsys.readouterr().out
    (run_folder / "model" / "embedllm.json").unlink()
    monkeypatch.setattr("embedllm.eval.tasks.prepare_tasks", lambda *_: pytest.fail("mteb was asked"))
    assert main(["evaluate", str(run_folder), "--tasks", str(sts)]) == 0
    assert capsys.readouterr().out == first


def test_a_run_that_another_process_works_on_is_left_alone(
    run_folder: Path, sts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "result.json").read_text()
    with RunFolder(run_folder).locked():
        assert main(["evaluate", str(run_folder), "--tasks", str(sts)]) == 2
    assert "another process is at work on this run" in capsys.readouterr().err
    assert (run_folder / "result.json").read_text() == before
