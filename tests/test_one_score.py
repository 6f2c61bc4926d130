"""One model has one score: in the training, from ``embedllm evaluate``, in sentence-transformers and by mteb alone."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedllm.cli import main
from embedllm.data.embedded_files import embedded_data_path
from embedllm.eval.rng import isolated_rng

Run = Callable[..., tuple[int, str]]

TOLERANCE = 0.01


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def definitions(count: int) -> dict[str, list[str]]:
    """Real texts of a few classes, in no order."""
    with embedded_data_path("wordnet_definitions").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})[:5]
    chosen = [row for name in classes for row in [r for r in rows if r["label"] == name][: count // 5]]
    random.Random(0).shuffle(chosen)
    return {"text": [row["text"] for row in chosen], "label": [row["label"] for row in chosen]}


def similar(texts: list[str]) -> dict[str, list[Any]]:
    """Pairs with a score between 0 and 5 that depends on the words they share."""
    first, second = texts[::2], texts[1::2]
    shared = [len(set(a.split()) & set(b.split())) for a, b in zip(first, second, strict=True)]
    return {"sentence1": first, "sentence2": second, "score": [min(5, 1.5 * count) for count in shared]}


def by_mteb_alone(export: Path, labelled: dict[str, list[str]], scored: dict[str, list[Any]]) -> dict[str, float]:
    """Scores from nothing but mteb and sentence-transformers."""
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClustering, AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata
    from sentence_transformers import SentenceTransformer

    def described(name: str, kind: str, score: str) -> TaskMetadata:
        return TaskMetadata(
            name=name,
            description="",
            type=kind,
            main_score=score,
            dataset={"path": "x/y", "revision": "1"},
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
        )

    class Labelled(AbsTaskClustering):  # type: ignore[misc]
        metadata = described("labelled", "Clustering", "v_measure")
        max_fraction_of_documents_to_embed = None

    class Scored(AbsTaskSTS):  # type: ignore[misc]
        metadata = described("scored", "STS", "cosine_spearman")
        min_score, max_score = 0, 5

    clustering, similarity = Labelled(), Scored()
    columns = {"sentences": labelled["text"], "labels": labelled["label"]}
    for task, rows in ((clustering, columns), (similarity, scored)):
        task.dataset, task.data_loaded = DatasetDict(test=Dataset.from_dict(rows)), True
    model = SentenceTransformer(str(export), device="cpu")
    with isolated_rng():
        result = mteb.evaluate(model, [clustering, similarity], cache=None, co2_tracker=False)
    return {task.task_name: 100 * task.get_score() for task in result.task_results}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["model=tiny", "pooling=mean", "prompt=none"],
        ["model=tiny", "pooling=last", "prompt=cluster", "centring=true"],
        ["model.layers=10", "pooling=last", "prompt=cluster", "adapter.r=4"],
    ],
    ids=lambda settings: " ".join(settings),
)
def test_every_way_to_score_a_model_agrees(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    request: pytest.FixtureRequest,
) -> None:
    if "model=tiny" not in settings:
        settings = [*settings, f"model.name={request.getfixturevalue('smollm2_path')}"]
    labelled = definitions(60 if "model=tiny" in settings else 30)
    scored = similar(labelled["text"])
    files = [write(tmp_path / "labelled.csv", labelled), write(tmp_path / "scored.csv", scored)]
    pairs = write(tmp_path / "pairs.csv", {"anchor": labelled["text"][:16], "positive": labelled["text"][1:17]})
    tasks = f"[{files[0]},{files[1]}]"
    code, printed = run(
        *settings, f"data.path={pairs}", "trainer.max_steps=2", "trainer.batch_size=8", "trainer.warmup=1",
        f"eval.tasks={tasks}", f"eval.dev={tasks}", "trainer.eval_every=2", "eval.allow_overlap=true",
        "eval.intrinsic=false", "export=true",
    )  # fmt: skip
    assert code == 0, printed
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/*/result.json"))
    result = json.loads((folder / "result.json").read_text())
    names = ("labelled", "scored")
    found = {"result": {name: result["tasks"][name]["main_score"] for name in names}}
    with (folder / "metrics.csv").open() as file:
        metrics = {row["metric"]: float(row["value"]) for row in csv.DictReader(file) if row["step"] == "2"}
    found["callback"] = {name: metrics[f"dev/{name}"] for name in names}
    for model in (str(folder / "model"), f"st:{folder / 'export'}"):
        assert main(["evaluate", model, "--tasks", *map(str, files)]) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
        found[model] = {name: float(score) for name, score in lines if name in names}
    found["mteb"] = by_mteb_alone(folder / "export", labelled, scored)
    for scores in found.values():
        for name in names:
            assert scores[name] == pytest.approx(found["result"][name], abs=TOLERANCE), found
    assert found["result"]["labelled"] > 5
