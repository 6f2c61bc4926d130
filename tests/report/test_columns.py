"""What varies between runs."""

from typing import Any

import pytest
from made_studies import made_config

from embedllm.config import config_dir
from embedllm.eval.specs import parse_specs, task_name
from embedllm.report.columns import find_columns
from embedllm.report.study import Run
from embedllm.runs import RunFolder


def runs(*configs: dict[str, Any], **choices: list[str]) -> list[Run]:
    made = []
    for i, config in enumerate(configs):
        chosen = {group.replace("__", "/"): options[i] for group, options in choices.items()}
        made.append(Run(RunFolder(config_dir() / f"run {i}"), "done", "", config, chosen))
    return made


def named(found: list[Run]) -> dict[str, list[str]]:
    return {column.name: list(column.values.values()) for column in find_columns(found)}


def test_seeds_and_what_does_not_decide_weights_are_no_columns() -> None:
    assert named(runs(made_config(), made_config(seed=1, trainer__devices=2, eval__max_documents=9, study="b"))) == {
        "study": ["made", "b"]
    }


def test_settings_are_named_by_the_option_that_was_chosen() -> None:
    found = runs(
        made_config("mean", "none"), made_config("last", "cot"), pooling=["mean", "last"], prompt=["none", "cot"]
    )
    assert named(found) == {"pooling": ["mean", "last"], "prompt": ["none", "cot"]}


def test_an_option_that_says_all_that_varies_in_its_group_is_one_column() -> None:
    one = made_config(data__path="a.csv", data__label="topic")
    assert named(runs(one, made_config(), data=["articles", "pairs"])) == {"data": ["articles", "pairs"]}
    assert set(named(runs(one, made_config(), data=["pairs", "pairs"]))) == {"data.path", "data.label"}


def test_a_prompt_of_ones_own_is_shown_as_typed() -> None:
    found = runs(made_config("mean", "none"), made_config("mean", "About {text}"), prompt=["none", "custom"])
    assert named(found) == {"prompt": ["none", "About {text}"]}


def test_a_head_and_one_of_its_settings_are_two_columns() -> None:
    found = runs(
        made_config("mean"),
        made_config("last"),
        made_config("last", pooling__normalize=False),
        pooling=["mean", "last", "last"],
    )
    assert named(found) == {"pooling": ["mean", "last", "last"], "pooling.normalize": ["true", "true", "false"]}


def test_a_run_without_a_training_differs_by_its_steps_alone() -> None:
    assert named(runs(made_config(), made_config(trainer__max_steps=0), loss=["infonce", "infonce"])) == {
        "trainer.max_steps": ["40", "0"]
    }


def test_what_only_trained_runs_have_may_still_vary() -> None:
    found = runs(made_config(), made_config(loss__temperature=0.5), made_config(trainer__max_steps=0))
    assert named(found) == {"loss.temperature": ["0.1", "0.5", "-"], "trainer.max_steps": ["40", "40", "0"]}


def test_paths_are_shown_without_the_folders_that_they_share() -> None:
    found = runs(made_config(data__path="/data/llm/pairs.csv"), made_config(data__path="/data/nli/pairs.csv"))
    assert named(found) == {"data.path": ["llm/pairs.csv", "nli/pairs.csv"]}


def test_a_run_without_choices_takes_its_names_from_the_others() -> None:
    found = runs(
        made_config("mean", "none"), made_config("last", "cot"), made_config("last", "none"), prompt=["none", "cot", ""]
    )
    found[2] = Run(found[2].folder, "failed", "", found[2].config, {})
    assert named(found)["prompt"] == ["none", "cot", "none"]


def test_numbers_stand_in_their_order() -> None:
    found = runs(*(made_config(adapter__r=r) for r in (64, 8, 16)), made_config(trainer__max_steps=0))
    (column,) = (column for column in find_columns(found) if column.name == "adapter.r")
    assert column.options == ["8", "16", "64", "-"]


@pytest.mark.parametrize(
    "entry", ["Twenty.v2", "my.csv", "a/b.jsonl.gz", "embedded:wordnet_definitions", "classification:my.csv",
              "classification:embedded:wordnet_definitions"]
)  # fmt: skip
def test_a_task_is_named_as_when_its_file_is_there(entry: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for name in ("my.csv", "a/b.jsonl.gz"):
        (tmp_path / name).write_text("text,label")
    assert task_name(entry) == parse_specs([entry])[0].name
