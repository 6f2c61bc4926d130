"""``embedllm evaluate`` with several models: baselines beside ours."""

import csv
import json
import random
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer

from embedllm import Embedder
from embedllm.cli import main
from embedllm.eval.score import score_tasks
from embedllm.eval.specs import parse_specs

WORDS = [
    "trout",
    "salmon",
    "carp",
    "cod",
    "oak",
    "birch",
    "pine",
    "elm",
    "sirius",
    "vega",
    "rigel",
    "deneb",
    "moon",
    "sea",
    "old",
    "new",
    "red",
    "blue",
    "far",
    "near",
]
pytestmark = pytest.mark.usefixtures("quick_scores")

Evaluate = Callable[..., tuple[int, list[list[str]], str, str]]


@pytest.fixture
def sts(tmp_path: Path) -> Path:
    """A csv of 40 scored pairs."""
    rng = random.Random(1)
    rows = []
    for number in range(40):
        first = rng.sample(WORDS, k=8)
        kept = rng.randrange(2, 8)
        second = first[:kept] + rng.choices(WORDS, k=8 - kept)
        rows.append((f"{' '.join(first)} {number}", f"{' '.join(second)} {number}", kept + rng.random()))
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("sentence1", "sentence2", "score"), *rows])
    return path


@pytest.fixture(scope="module")
def saved(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ``Embedder.save``; its last two parts are ``ours/model``."""
    folder = tmp_path_factory.mktemp("runs") / "study" / "ours" / "model"
    Embedder.from_pretrained(str(tiny_path), template="Text: {text}").save(folder)
    return folder


@pytest.fixture(scope="module")
def exported(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a folder of sentence-transformers."""
    from embedllm.export import export

    folder = tmp_path_factory.mktemp("exports") / "study" / "theirs"
    export(saved, folder)
    return folder


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Return the exit code, the cells of all lines but the last, the last line, and what went to the standard error."""

    def call(*arguments: object) -> tuple[int, list[list[str]], str, str]:
        capsys.readouterr()
        code = main(["evaluate", *map(str, arguments)])
        printed = capsys.readouterr()
        *table, tasks = printed.out.splitlines() or [""]
        return code, [line.split() for line in table], tasks, printed.err

    return call


@pytest.mark.slow
def test_baselines_stand_beside_a_bare_decoder_and_a_model(
    evaluate: Evaluate, tiny_path: Path, saved: Path, exported: Path, sts: Path, labelled: Path
) -> None:
    models = ["tfidf", "embedded:tiny", saved, f"st:{exported}"]
    code, (header, rule, *rows), tasks, _ = evaluate(*models, "--tasks", sts, labelled)
    assert code == 0
    assert header == ["model", "pairs", "animals", "mean"]
    assert all(set(cell) == {"-"} for cell in rule)
    assert [row[0] for row in rows] == ["tfidf", "embedded:tiny", "ours/model", "st:study/theirs"]
    assert tasks == f"tasks: custom (2 tasks, mteb {version('mteb')})"
    scores = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(scores[:, 2], scores[:, :2].mean(axis=1), atol=0.011)
    np.testing.assert_allclose(scores[3], scores[2], atol=0.011)  # one model, two packages
    assert abs(scores[1] - scores[2]).max() > 0.1  # the prompt
    alone = score_tasks(Embedder.load(tiny_path), parse_specs([str(sts), str(labelled)]))
    assert scores[1, :2] == pytest.approx([score["main_score"] for score in alone.values()], abs=0.0051)


def test_the_row_of_tfidf_is_that_of_scikit_learn(evaluate: Evaluate, sts: Path) -> None:
    """There are fewer words than dimensions, so the decomposition loses nothing."""
    code, (header, _, row, _), tasks, _ = evaluate("tfidf", "embedded:tiny", "--tasks", sts)
    with sts.open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    sides = [[pair[name] for pair in pairs] for name in ("sentence1", "sentence2")]
    words = TfidfVectorizer().fit([*sides[0], *sides[1]])
    cosines = (words.transform(sides[0]).toarray() * words.transform(sides[1]).toarray()).sum(axis=1)
    assert np.diff(np.sort(cosines)).min() > 1e-6  # no ties for rounding to break
    expected = 100 * spearmanr(cosines, [float(pair["score"]) for pair in pairs])[0]
    assert (code, header, row[0]) == (0, ["model", "pairs"], "tfidf")
    assert float(row[1]) == pytest.approx(expected, abs=0.0051)
    assert tasks == f"tasks: custom (1 task, mteb {version('mteb')})"


def test_one_baseline_has_lines_and_no_table(
    evaluate: Evaluate, exported: Path, sts: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("tfidf", f"st:{exported}"):
        code, lines, tasks, _ = evaluate(model, "--tasks", sts, labelled, "--max-documents", 20)
        assert (code, [line[0] for line in lines]) == (0, ["pairs", "animals", "mean"])
        assert tasks == f"tasks: custom (2 tasks, at most 20 documents each, mteb {version('mteb')})"
    assert main(["evaluate", "tfidf", "--tasks", str(sts)]) == 0
    name, score = capsys.readouterr().out.removesuffix("\n").split("\t")
    assert name == "pairs"
    assert 20 < float(score) < 100


def test_a_run_keeps_its_scores_and_the_others_leave_nothing(
    evaluate: Evaluate, saved: Path, exported: Path, sts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "study" / "run"
    run.mkdir(parents=True)
    (run / "model").symlink_to(saved)
    (run / "result.json").write_text(json.dumps({"tasks": {"old": {"main_score": 50.0}}, "score": 50.0}))
    before = {*exported.rglob("*"), *tmp_path.rglob("*")}
    code, (_, _, *rows), _, _ = evaluate(run, "tfidf", f"st:{exported}", "--tasks", sts)
    assert (code, [row[0] for row in rows]) == (0, ["study/run", "tfidf", "st:study/theirs"])
    result = json.loads((run / "result.json").read_text())
    assert (result["tasks"].keys(), result["score"]) == ({"old", "pairs"}, 50.0)
    assert f"{result['tasks']['pairs']['main_score']:.2f}" == rows[0][1]
    written = {*exported.rglob("*"), *tmp_path.rglob("*")} - before
    assert {path.relative_to(run).as_posix() for path in written} == {
        "evidence",
        "evidence/after",
        "evidence/after/pairs.npz",
    }


def test_a_task_without_a_score_is_a_dash_and_an_exit_code(evaluate: Evaluate, sts: Path, tmp_path: Path) -> None:
    wordless = tmp_path / "wordless.csv"
    wordless.write_text("text,label\n!,a\n?,b\n!!,a\n??,b\n")
    code, (_, _, words, decoder), _, errors = evaluate("tfidf", "embedded:tiny", "--tasks", wordless, sts)
    assert code == 1
    assert (words[0], words[1], words[3]) == ("tfidf", "-", "incomplete")
    assert float(words[2]) > 20
    assert "-" not in decoder
    assert "tfidf: wordless: ValueError: empty vocabulary" in errors
    code, lines, _, _ = evaluate("tfidf", "--tasks", wordless, sts)
    assert (code, [line[0] for line in lines], lines[2][1]) == (1, ["wordless", "pairs", "mean"], "incomplete")


def test_a_hub_that_is_away_costs_every_model_that_task_alone(evaluate: Evaluate, sts: Path) -> None:
    models = ["tfidf", "embedded:tiny"]
    code, (header, _, *rows), tasks, errors = evaluate(*models, "--tasks", sts, "TwentyNewsgroupsClustering.v2")
    assert (code, header[2:]) == (1, ["TwentyNewsgroupsClustering.v2", "mean"])
    for model, row in zip(models, rows, strict=True):
        assert row[::2] == [model, "-"]
        assert row[3] == "incomplete"
        assert float(row[1]) > -100
        assert f"{model}: TwentyNewsgroupsClustering.v2: " in errors
    assert tasks == f"tasks: custom (2 tasks, mteb {version('mteb')})"


def test_two_folders_of_one_name_are_told_apart(evaluate: Evaluate, saved: Path, sts: Path, tmp_path: Path) -> None:
    again = tmp_path / "ours" / "model"
    shutil.copytree(saved, again)
    _, (_, _, *rows), _, _ = evaluate(saved, again, "--tasks", sts)
    assert [row[0] for row in rows] == [str(saved), str(again)]
    assert rows[0][1] == rows[1][1]


def test_a_folder_that_is_called_tfidf_is_a_model(
    evaluate: Evaluate, saved: Path, sts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tfidf").symlink_to(saved)
    monkeypatch.chdir(tmp_path)
    _, (_, _, counted, ours, linked), _, _ = evaluate("tfidf", saved, "./tfidf", "--tasks", sts)
    assert counted[1] != ours[1] == linked[1]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (["tfidf", "./nowhere"], "model.name: "),
        (["tfidf", "no-such/model"], "model.name: 'no-such/model' "),
        (["tfidf", "TFIDF"], "model.name: 'TFIDF' "),
        (["embedded:tiny", "embedded:tinny"], "model.name: "),
        (["embedded:tiny", "st:./nowhere"], "MODEL: 'st:./nowhere' is no folder; give a folder or a Hub id"),
        (["embedded:tiny", "st:no-such/model"], "MODEL: 'st:no-such/model' cannot be had: "),
        (["tfidf", "st:."], "MODEL: 'st:.' has no modules.json, so it is not a folder of sentence-transformers"),
        (["st:"], "MODEL: 'st:' is no folder; give a folder or a Hub id"),
        (["tfidf", "tfidf"], "MODEL: 'tfidf' is given more than once"),
        (["embedded:tiny", "tfidf", "embedded:tiny"], "MODEL: 'embedded:tiny' is given more than once"),
    ],
)
def test_a_wrong_model_is_one_sentence_before_anything_is_scored(
    sts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *models, "--tasks", str(sts)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(sentence)
    assert printed.err.count("\n") == 1


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tasks", "nope.csv"], "--tasks: 'nope.csv': no file"),
        (["--tasks", "pairs.csv", "NoTask"], "--tasks: 'NoTask' is no MTEB task"),
        (["--tasks", "pairs.csv", "--max-documents", "1"], "--max-documents: 1 is not allowed"),
        (["--tasks", "empty.csv"], "--tasks: 'empty.csv'"),
        (["--tasks", "pairs.csv", "empty.csv"], "--tasks: 'empty.csv' has no rows"),
        (["--tasks", "pairs.csv", "classification:once.csv"], "--tasks: 'classification:once.csv' has 1 label that"),
        (["--tasks", "pairs.csv", "columns.csv"], "--tasks: 'columns.csv' has the columns ['title', 'topic']; it"),
    ],
)
def test_a_wrong_task_is_one_sentence(
    sts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(sts.parent)
    Path("empty.csv").write_text("sentence1,sentence2,score\n")
    Path("once.csv").write_text("text,label\na,x\nb,x\nc,y\n")
    Path("columns.csv").write_text("title,topic\na,x\nb,y\n")
    assert main(["evaluate", "tfidf", "embedded:tiny", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith(sentence)
