"""The map of a task before and after a training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from embedllm.cli import main
from embedllm.eval.evidence import gather
from embedllm.report.maps import draw_map, flat
from embedllm.runs import RunFolder


def blobs(spread: float, labels: list[str]) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = {label: rng.standard_normal(12) * 5 for label in sorted(set(labels))}
    return np.stack([centres[label] + spread * rng.standard_normal(12) for label in labels]).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("made") / "run")
    labels = [f"class {i % 12}" for i in range(96)]
    texts = [f"text {i}" for i in range(96)]
    for stage, spread in (("before", 6.0), ("after", 0.5)):
        gather(texts, labels, blobs(spread, labels), 50.0).save(folder.evidence(stage, "blobs"))
    entry = {"metric": "v_measure", "main_score": 97.0, "before": 31.5, "gain": {"low": 60.0, "high": 70.0}}
    folder.write_result({"tasks": {"blobs": entry, "sts": {"metric": "cosine_spearman", "main_score": 1.0}}})
    return folder.path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(made, tmp_path / "run")))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_map_is_written(run: RunFolder, tmp_path: Path, suffix: str) -> None:
    figure = tmp_path / "new" / f"map{suffix}"
    assert main(["map", str(run.path), "-o", str(figure)]) == 0
    assert figure.stat().st_size > 5_000


def test_it_shows_scores_interval_and_eight_classes(run: RunFolder, tmp_path: Path) -> None:
    figure = tmp_path / "map.svg"
    main(["map", str(run.path), "-o", str(figure), "--task", "blobs"])
    comments = figure.read_text()  # the backend writes each text as a comment beside its outline
    for text in ("V-measure 31.5", "V-measure 97.0", "+60.0 to +70.0 points", "before training", "4 others"):
        assert f"<!-- {text}" in comments or f"{text}" in comments, text


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        main(["map", str(run.path), "-o", str(tmp_path / name)])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_run_without_training_has_one_panel(run: RunFolder, tmp_path: Path) -> None:
    run.evidence("before", "blobs").unlink()
    figure = tmp_path / "map.svg"
    assert main(["map", str(run.path), "-o", str(figure)]) == 0
    assert "before training" not in figure.read_text()


def test_neighbours_stay_neighbours() -> None:
    labels = [str(i % 3) for i in range(60)]
    evidence = gather([str(i) for i in range(60)], labels, blobs(0.1, labels), 100.0)
    points = flat(evidence.components)
    neighbours = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(return_distance=False)
    same = [labels[i] == labels[j] for i, row in enumerate(neighbours) for j in row]
    assert np.mean(same) > 0.95


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_documents_can_be_drawn(count: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float16)
    assert np.isfinite(flat(vectors)).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere", "-o", "map.png"], "RUN: 'nowhere' is not the folder of a finished run"),
        (["RUN", "-o", "map.gif"], "--output: 'map.gif' does not end in .png, .svg or .pdf"),
        (["RUN", "-o", "map.png", "--task", "sts"], "--task: 'sts' has no map in this run; these have: blobs"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    run: RunFolder, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["map", *[str(run.path) if word == "RUN" else word for word in arguments]]) == 2
    assert capsys.readouterr().err.strip() == sentence


def test_a_stage_whose_score_is_not_known_is_left_out(run: RunFolder, tmp_path: Path) -> None:
    entry = {**run.read_result()["tasks"]["blobs"], "before": None, "gain": None}
    draw_map(run, "blobs", entry, tmp_path / "one.png")
    assert (tmp_path / "one.png").exists()
