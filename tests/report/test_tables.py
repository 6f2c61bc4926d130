"""The table at the end of a run."""

from typing import Any

from embedllm.report.tables import flat_settings, results_table


def result(pooling: str, prompt: str, seed: int = 0, **scores: float | None) -> dict[str, Any]:
    tasks = {name: {"main_score": score} if score is not None else {"error": "away"} for name, score in scores.items()}
    known = [score for score in scores.values() if score is not None]
    return {
        "choices": {"pooling": pooling, "prompt": prompt, "model": "tiny"},
        "config": {
            "study": "s",
            "seed": seed,
            "model": {"name": "embedded:tiny"},
            "pooling": {"_target_": f"embedllm.pooling.{pooling}", "normalize": True},
            "prompt": {"template": prompt, "bos": "auto"},
            "eval": {"tasks": list(scores)},
        },
        "tasks": tasks,
        "score": sum(known) / len(known) if len(known) == len(scores) else None,
    }


def test_columns_are_what_varies_then_the_tasks_then_the_mean() -> None:
    table = results_table([result("mean", "none", a=10.0, b=20.04), result("last", "none", a=30.0, b=None)])
    assert [line.split() for line in table.splitlines()] == [
        ["pooling", "a", "b", "mean"],
        ["-------", "----", "----", "----------"],
        ["mean", "10.0", "20.0", "15.0"],
        ["last", "30.0", "-", "incomplete"],
    ]


def test_one_run_shows_its_pooling_and_prompt_and_one_task_no_mean() -> None:
    assert results_table([result("mean", "cluster", a=1.0)]).splitlines()[0].split() == ["pooling", "prompt", "a"]


def test_a_task_that_only_some_runs_have_is_a_dash_and_their_means_do_not_compare() -> None:
    table = results_table([result("mean", "none", a=1.0), result("last", "none", b=2.0)])
    assert table.splitlines()[2].split() == ["mean", "1.0", "-", "incomplete"]


def test_where_results_are_kept_and_scored_is_no_setting_of_the_model() -> None:
    settings = flat_settings(result("mean", "none", a=1.0))
    assert settings == {
        "seed": 0,
        "model": "tiny",
        "pooling": "mean",
        "pooling.normalize": True,
        "prompt": "none",
        "prompt.bos": "auto",
    }
