"""The table at the end of a program."""

from typing import Any

from made_studies import made_config

from embedllm.report.results import results_table
from embedllm.runs import run_id


def result(
    pooling: str = "mean", prompt: str = "none", seed: int = 0, of: str = "ab", **scores: float | None
) -> dict[str, Any]:
    config = made_config(pooling, prompt, seed, eval__tasks=list(scores))
    tasks = {name: {"main_score": score} if score is not None else {"error": "away"} for name, score in scores.items()}
    return {
        "run_id": run_id(config),
        "study": "made",
        "choices": {"pooling": pooling, "prompt": prompt, "model": "tiny"},
        "config": config,
        "tasks": {name: {**entry, "of": of} for name, entry in tasks.items()},
    }


def rows(*results: dict[str, Any], **more: Any) -> list[list[str]]:
    lines = results_table(results, **more).splitlines()
    return [line.split() for line in (lines[0], *lines[2:])]


def test_columns_are_what_varies_then_the_tasks_then_the_mean() -> None:
    table = results_table([result("mean", a=10.0, b=20.04), result("last", a=30.0, b=None)])
    assert [line.split() for line in table.splitlines()] == [
        ["pooling", "a", "b", "mean"],
        ["-------", "----", "----", "----------"],
        ["mean", "10.0", "20.0", "15.0"],
        ["last", "30.0", "-", "incomplete"],
    ]


def test_one_run_shows_its_pooling_and_prompt_and_one_task_no_mean() -> None:
    assert rows(result(prompt="cluster", a=1.0)) == [["pooling", "prompt", "a"], ["mean", "cluster", "1.0"]]


def test_a_task_that_only_some_runs_have_is_a_dash_and_their_means_do_not_compare() -> None:
    assert rows(result("mean", a=1.0), result("last", b=2.0))[1] == ["mean", "1.0", "-", "incomplete"]


def test_seeds_are_one_row_of_mean_and_spread_with_their_number() -> None:
    heads = (("last", 30.0), ("mean", 10.0))
    found = [result(pooling, seed=seed, a=score + 2 * seed) for seed in (0, 1, 2) for pooling, score in heads]
    assert rows(*found) == [
        ["pooling", "a", "runs"],
        ["last", "32.0", "±", "2.0", "3"],
        ["mean", "12.0", "±", "2.0", "3"],
    ]
    assert rows(*found[:2]) == [["pooling", "a"], ["last", "30.0"], ["mean", "10.0"]]


def test_a_seed_without_a_result_or_a_score_is_counted_and_not_averaged_over_in_silence() -> None:
    lacking = result(seed=1, a=0.0)
    absent = [(lacking["config"], lacking["choices"])]
    assert rows(result(a=10.0), absent=absent)[1] == ["mean", "none", "10.0", "(1", "of", "2)", "1", "of", "2"]
    without = rows(result(a=10.0), result(seed=1, a=None))[1]
    assert without == ["mean", "none", "10.0", "(1", "of", "2)", "2"]


def test_a_run_that_a_sweep_makes_once_is_no_run_of_several_seeds() -> None:
    """Such a sweep is over a setting that decides no weights, or over the tasks."""
    assert rows(result(a=1.0), result(a=1.0)) == [["pooling", "prompt", "a"], ["mean", "none", "1.0"]]
    assert rows(result(a=1.0), result(b=3.0))[1] == ["mean", "none", "1.0", "3.0", "2.0"]


def test_scores_of_one_run_on_other_documents_are_two_rows() -> None:
    small, large = result(a=1.0, of="part"), result(a=2.0, of="all")
    large["config"]["eval"]["max_documents"] = None
    found = rows(small, large)
    assert found[0] == ["documents", "a"]
    assert [row[-1] for row in found[1:]] == ["1.0", "2.0"]


def test_a_prompt_of_ones_own_stays_on_its_line() -> None:
    found = result(prompt="one\ntwo", a=1.0)
    found["choices"]["prompt"] = "custom"
    assert rows(found, result(a=2.0))[1] == ["one", "two", "1.0"]
