"""The README of an exported folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedllm.export.model_card import write_model_card
from embedllm.runs import RunFolder

CONFIG = {
    "seed": 3,
    "model": {"name": "org/decoder", "layers": None, "dtype": "auto"},
    "prompt": {"template": "Text | {text}"},
    "pooling": {"_target_": "embedllm.pooling.MeanPooling"},
    "adapter": {"kind": "lora", "r": 8, "path": None},
    "data": {"path": "embedded:wikipedia_sentences", "augment": {"_target_": "embedllm.data.augment.WordNoise"}},
    "loss": {"temperature": 0.1},
    "optimizer": {"lr": 0.0002},
    "trainer": {"max_steps": 40, "batch_size": 32, "checkpoint_every": 10},
    "eval": {"tasks": []},
}
RESULT = {
    "run_id": "abcdef12",
    "config": CONFIG,
    "tasks": {
        "WordNet": {"main_score": 31.256, "before": 25.0, "metric": "v_measure", "of": {"max_documents": 1024}},
        "STS": {"main_score": 60.0, "before": None, "metric": "cosine_spearman", "of": {"max_documents": None}},
        "Broken": {"error": "no network"},
    },
    "score": 45.6,
    "score_before": None,
    "versions": {"mteb": "2.26.24"},
    "train": {"pairs": 1280},
}


def card(folder: Path, run: Path, embedder: Any, notes: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    write_model_card(folder, run, embedder, notes)
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.fixture
def embedder(build: Any) -> Any:
    return build("llama")


def write_run(folder: Path, **changes: Any) -> Path:
    run = folder / "run"
    run.mkdir()
    RunFolder(run).write_result(json.loads(json.dumps({**RESULT, **changes})))
    return run


def test_scores_stand_with_metric_sample_and_version(tmp_path: Path, embedder: Any) -> None:
    _, text = card(tmp_path, write_run(tmp_path), embedder)
    assert "| WordNet | v_measure | 1,024 at most | 25.00 | 31.26 |" in text
    assert "| STS | cosine_spearman | all | - | 60.00 |" in text
    assert "| Broken | - | all | - | - |" in text
    assert "mteb 2.26.24" in text


def test_a_mean_is_over_every_row_above_it(tmp_path: Path, embedder: Any) -> None:
    _, text = card(tmp_path, write_run(tmp_path), embedder)
    assert "| **mean** |  |  | incomplete | incomplete |" in text
    whole = {name: {**RESULT["tasks"][name], "before": None} for name in ("WordNet", "STS")}
    (tmp_path / "whole").mkdir()
    _, text = card(tmp_path, write_run(tmp_path / "whole", tasks=whole), embedder)
    assert "| **mean** |  |  | - | 45.63 |" in text


def test_the_recipe_holds_what_decided_the_weights(tmp_path: Path, embedder: Any) -> None:
    _, text = card(tmp_path, write_run(tmp_path), embedder)
    for line in ("seed | 3", "loss.temperature | 0.1", "trainer.batch_size | 32", "prompt.template | Text \\| {text}"):
        assert f"| {line} |" in text
    assert "checkpoint_every" not in text
    assert "None" not in text


def test_training_data_come_with_their_licence(tmp_path: Path, embedder: Any) -> None:
    _, text = card(tmp_path, write_run(tmp_path), embedder)
    assert "`embedded:wikipedia_sentences` (1,280 pairs): sentences of 97 articles" in text
    assert "CC BY-SA 3.0. Positives are altered copies." in text
    assert "| data.augment._target_ | embedllm.data.augment.WordNoise |" in text


def test_positives_that_are_other_texts_of_a_label_are_called_so(tmp_path: Path, embedder: Any) -> None:
    """``data=wikipedia_articles`` comes with the default ``data.augment``, which has nothing to do there."""
    data = {**CONFIG["data"], "label": "title", "positive": "positive"}
    _, text = card(tmp_path, write_run(tmp_path, config={**CONFIG, "data": data}), embedder)
    assert "Positives are other texts with the same `title`." in text
    assert "altered" not in text
    assert "data.augment" not in text
    assert "data.positive" not in text
    assert "| data.label | title |" in text


@pytest.mark.parametrize(
    ("positives", "sentence", "augment"),
    [
        ("label", "Positives are other texts with the same `topic`.", False),
        ("column", "publish the model.\n", False),
        ("augment", "Positives are altered copies.", True),
        ("column or augment", "Positives are those of the data; where they are equal to the anchor, altered", True),
    ],
)
def test_positives_are_those_of_the_result(
    tmp_path: Path, embedder: Any, positives: str, sentence: str, augment: bool
) -> None:
    data = {"path": "pairs.csv", "positive": "b", "label": "topic", "augment": {"p": 0.1}}
    run = write_run(tmp_path, config={**CONFIG, "data": data}, train={"pairs": 9, "positives": positives})
    _, text = card(tmp_path, run, embedder)
    assert sentence in text
    assert ("data.augment" in text) == augment
    assert ("data.positive" in text) == ("column" in positives)


def test_a_path_of_this_machine_is_not_published(tmp_path: Path, embedder: Any) -> None:
    config = {**CONFIG, "data": {"path": "/home/someone/secret/pairs.csv"}}
    _, text = card(tmp_path, write_run(tmp_path, config=config), embedder)
    assert "someone" not in text
    assert "`pairs.csv` (1,280 pairs): no licence is recorded" in text


def test_an_untrained_run_says_so(tmp_path: Path, embedder: Any) -> None:
    _, text = card(tmp_path, write_run(tmp_path, train=None), embedder)
    assert "None: the base model as it is." in text
    assert "trainer." not in text


def test_the_model_folder_of_a_run_finds_its_result(tmp_path: Path, embedder: Any) -> None:
    _, text = card(tmp_path, write_run(tmp_path) / "model", embedder)
    assert "| WordNet |" in text


def test_a_saved_model_has_no_scores(tmp_path: Path, embedder: Any) -> None:
    write_run(tmp_path)
    front, text = card(tmp_path, tmp_path / "run" / "elsewhere", embedder, ("Mind the gap",))
    assert "None were recorded." in text
    assert "* Mind the gap" in text
    assert front["library_name"] == "sentence-transformers"
    assert "base_model" not in front
    assert "license" not in front


@pytest.mark.parametrize(
    ("name", "base", "licence"),
    [
        ("embedded:smollm2_135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", None),
        ("/models/mine", None, None),
    ],
)
def test_base_and_licence_are_named_where_they_are_known(
    tmp_path: Path, embedder: Any, name: str, base: str | None, licence: str | None
) -> None:
    embedder.spec = replace(embedder.spec, name=name)
    front, text = card(tmp_path, tmp_path, embedder)
    assert (front.get("base_model"), front.get("license")) == (base, licence)
    assert ("4-bit" in text) == name.startswith("embedded:smollm2")


def test_the_use_is_code_that_runs(exported: Path) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0].replace("PATH_OR_HUB_ID", str(exported))
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["vectors"].shape == (2, 32)
