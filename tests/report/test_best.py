"""Which settings are called the best, and which cannot be told from them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from made_studies import make_run
from scipy.stats import t

from embedllm.eval.bootstrap import interval
from embedllm.eval.paired import differences, load_evidence
from embedllm.report.best import Judge, Verdict
from embedllm.report.effects import effects
from embedllm.report.groups import Group, Table, tabulate
from embedllm.report.reading import read_study
from embedllm.report.study import Run, Study
from embedllm.runs import RunFolder

POOLINGS = ("mean", "last", "max")


def judged(study: Path, tasks: list[str] | None = None) -> tuple[Table, Verdict]:
    table = tabulate(read_study(study))
    verdict = Judge(table).verdict(tasks or table.tasks)
    assert verdict is not None
    return table, verdict


def seeded(study: Path, spread: float, **means: float) -> None:
    for pooling, mean in means.items():
        for seed, step in enumerate((-spread, 0.0, spread)):
            make_run(study, pooling, "none", seed, {"animals": mean + step}, eval__tasks=["animals.csv"])


def test_seeds_alone_give_the_interval_of_a_pooled_t_test(tmp_path: Path) -> None:
    seeded(tmp_path / "s", 1.0, mean=50.0, last=47.0, max=49.5)
    _, verdict = judged(tmp_path / "s")
    gap = verdict.gaps[("last",)]
    reach = t.ppf(1 - 0.05 / (2 * 2), 6) * np.sqrt(1.0 * (1 / 3 + 1 / 3))  # two comparisons, three groups of three
    assert (gap.difference, gap.low, gap.high) == pytest.approx((-3.0, -3.0 - reach, -3.0 + reach))
    assert verdict.of == {"seeds"}
    assert gap.behind
    assert verdict.best.settings == ("mean",)


def test_documents_alone_give_the_interval_of_compare(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "s", p, documents=60, scores={"animals": s}, eval__tasks=["animals.csv"])
            for p, s in (("mean", 50.0), ("last", 48.0))]  # fmt: skip
    evidence = [load_evidence(run.evidence("after", "animals")) for run in runs]
    _, verdict = judged(tmp_path / "s")
    (gap,) = verdict.gaps.values()
    assert (gap.low, gap.high) == pytest.approx(interval(differences(*evidence)), abs=0.02)  # type: ignore[arg-type]
    assert verdict.of == {"documents"}


def test_with_both_the_interval_is_wider_than_with_either(kept: Path) -> None:
    _, both = judged(kept)
    for path in kept.rglob("*.npz"):
        path.unlink()
    _, seeds = judged(kept)
    assert (both.of, seeds.of) == ({"documents", "seeds"}, {"seeds"})
    for settings, gap in both.gaps.items():
        assert gap.low is not None
        assert gap.difference == seeds.gaps[settings].difference


def test_more_rivals_make_the_intervals_wider(tmp_path: Path) -> None:
    seeded(tmp_path / "few", 1.0, mean=50.0, last=47.0)
    seeded(tmp_path / "many", 1.0, mean=50.0, last=47.0, max=30.0, eos=20.0)
    few, many = (judged(tmp_path / name)[1].gaps[("last",)] for name in ("few", "many"))
    seeds = {name: (4, 8)[name == "many"] for name in ("few", "many")}
    widths = [gap.high - gap.low for gap in (few, many) if gap.high is not None and gap.low is not None]
    assert widths[0] / widths[1] == pytest.approx(
        t.ppf(1 - 0.025, seeds["few"]) / t.ppf(1 - 0.025 / 3, seeds["many"]), rel=1e-6
    )


def untrained(study: Path, **scores: float) -> None:
    for (pooling, score), seed in itertools.product(scores.items(), range(3)):
        made = {"animals": score}
        make_run(study, pooling, "none", seed, made, eval__tasks=["animals.csv"], trainer__max_steps=0)


def test_models_that_no_seed_changes_do_not_make_the_seeds_of_others_look_alike(tmp_path: Path) -> None:
    seeded(tmp_path / "s", 1.0, mean=50.0, last=47.0)
    untrained(tmp_path / "s", mean=30.0, last=31.0, max=32.0)
    _, verdict = judged(tmp_path / "s")
    gap = verdict.gaps[("last", "40")]
    reach = t.ppf(1 - 0.05 / (2 * 4), 4) * np.sqrt(1.0 * (1 / 3 + 1 / 3))
    assert (gap.difference, gap.low, gap.high) == pytest.approx((-3.0, -3.0 - reach, -3.0 + reach))
    alone = verdict.gaps[("last", "0")]
    assert alone.high == pytest.approx(-19.0 + t.ppf(1 - 0.05 / (2 * 4), 4) * np.sqrt(1 / 3))


def test_seeds_say_nothing_of_models_that_no_seed_changes(tmp_path: Path) -> None:
    untrained(tmp_path / "s", mean=30.0, last=31.0)
    assert not judged(tmp_path / "s")[1].known
    seeded(tmp_path / "s", 1.0, max=20.0)
    _, verdict = judged(tmp_path / "s")
    assert verdict.best.settings == ("last", "0")
    assert verdict.gaps[("mean", "0")].low is None
    assert verdict.gaps[("max", "40")].behind


def test_what_nothing_is_known_of_is_not_judged(tmp_path: Path) -> None:
    for pooling in POOLINGS:
        make_run(tmp_path / "s", pooling)
    _, verdict = judged(tmp_path / "s")
    assert not verdict.known
    assert not any(gap.behind or gap.low is not None for gap in verdict.gaps.values())


def test_a_group_that_kept_less_than_the_others_has_no_interval(kept: Path) -> None:
    run = next(kept.glob("mean-none-*"))
    for path in run.rglob("*.npz"):
        path.unlink()
    table, verdict = judged(kept)
    assert verdict.gaps[("mean", "none")].low is None
    (group,) = (group for group in table.groups if group.settings == ("mean", "none"))
    assert not verdict.tied(group)


def test_a_group_that_was_scored_on_other_documents_is_no_rival(study: Path) -> None:
    make_run(study, "max", "none", eval__max_documents=64)
    _, verdict = judged(study)
    assert all("max" not in settings for settings in verdict.gaps)


def test_the_truly_best_is_nearly_always_best_or_tied(tmp_path: Path) -> None:
    """Ten settings that are equal in truth, so that each is truly the best; three seeds of each."""
    rng, kept = np.random.default_rng(0), 0
    for _ in range(300):
        groups = []
        for i, scores in enumerate(rng.normal(50, 1, (10, 3))):
            runs = [Run(RunFolder(tmp_path), result={"tasks": {"a": {"main_score": score}}}) for score in scores]
            groups.append(Group((str(i),), str(i), tuple(runs), ()))
        table = Table(Study(tmp_path, (), ()), (), tuple(groups), ("a",), (), ())
        verdict = Judge(table).verdict(("a",))
        assert verdict is not None
        kept += verdict.best is groups[0] or verdict.tied(groups[0])
    assert kept / 300 > 0.95


def test_an_effect_is_the_mean_over_the_same_settings_of_the_others(tmp_path: Path) -> None:
    scores = {("mean", "none"): 10.0, ("mean", "cluster"): 20.0, ("last", "none"): 30.0, ("last", "cluster"): 60.0}
    for (pooling, prompt), score in {**scores, ("max", "cluster"): 99.0}.items():
        make_run(tmp_path / "s", pooling, prompt, 0, {"animals": score}, eval__tasks=["animals.csv"])
    found = {effect.name: effect for effect in effects(tabulate(read_study(tmp_path / "s")))}
    assert found["prompt"].means == {"cluster": 40.0, "none": 20.0}  # max has no partner
    assert found["prompt"].left_out == 1
    assert found["pooling"].means == {"last": 45.0, "mean": 15.0}
    assert list(found) == ["pooling", "prompt"]
