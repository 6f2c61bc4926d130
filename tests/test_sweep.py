"""Sweeps: what they plan, what they skip, and the files of conf/sweep."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from embedllm import sweep
from embedllm.config import Config, config_dir
from embedllm.report.groups import tabulate
from embedllm.report.reading import read_study
from embedllm.sweep import settle
from embedllm.targets import check_targets

pytestmark = pytest.mark.usefixtures("quick_scores")

ConfigStore.instance().store("schema", Config)

Run = Callable[..., tuple[int, str]]
SWEEPS = sorted(path.stem for path in config_dir().glob("sweep/*.yaml"))
STUDIES = ("pooling_prompt", "fine_tuning", "pairs", "temperature", "steps", "lora_depth", "pool_size")


def jobs(name: str) -> list[list[str]]:
    """Return the settings of each job of a sweep, as Hydra makes them of its file."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        hydra = compose("config", [f"sweep={name}"], return_hydra_config=True).hydra
    assert hydra.mode.name == "MULTIRUN"
    params: Any = OmegaConf.to_container(hydra.sweeper.params, resolve=True)
    words = [f"{setting}={values}" for setting, values in params.items()]
    return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)[0]


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", SWEEPS)
def test_the_first_and_last_job_of_every_sweep_can_be_made(name: str) -> None:
    made = jobs(name)
    assert len(made) > 1
    for job in (made[0], made[-1]):
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = compose("config", [f"sweep={name}", *job], return_hydra_config=True)
        chosen = dict(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        settled = settle(composed, chosen, sweep=True)
        check_targets(settled.plain)
        assert settled.config.study == name
        assert (
            settled.config.trainer.warmup <= settled.config.trainer.max_steps or settled.config.trainer.max_steps == 0
        )


def test_every_study_of_the_paper_has_a_small_twin() -> None:
    assert {f"{size}_{study}" for size in ("paper", "small") for study in STUDIES} <= set(SWEEPS)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("study", STUDIES)
def test_the_papers_studies_are_of_both_its_models_and_vary_what_their_twins_do(study: str) -> None:
    swept = {size: {word.partition("=")[0] for job in jobs(f"{size}_{study}") for word in job} for size in SIZES}
    models = {word for job in jobs(f"paper_{study}") for word in job if word.startswith("model=")}
    assert models == {"model=llama_3_2_1b", "model=qwen3_0_6b"}
    alike = (
        {"data", "data.path", "model", "seed", "trainer.max_steps"}
        if study in ("pairs", "pooling_prompt")
        else {"model"}
    )
    assert swept["paper"] - alike == swept["small"] - alike


SIZES = ("paper", "small")


def test_a_sweep_writes_what_it_is_to_make_before_it_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def stop(*_: Any) -> None:
        seen.extend(json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/plan-*.json"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("embedllm.train.run_job", stop)
        assert run("-m", "pooling=mean,last", "seed=0,1")[0] == 130
    (plan,) = seen
    assert [made["settings"] for made in plan["runs"]] == [
        [f"pooling={pooling}", f"seed={seed}"] for pooling in ("mean", "last") for seed in (0, 1)
    ]
    assert all(made["tasks"] == ["animals"] for made in plan["runs"])
    (study,) = (tmp_path / "runs").iterdir()
    table = tabulate(read_study(study))
    assert [(group.settings, group.size) for group in table.groups] == [(("mean",), 2), (("last",), 2)]


def test_only_what_is_missing_or_failed_is_launched(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedllm import train

    made: list[str] = []
    job = train.run_job
    sweep_of_three = ("-m", "pooling=mean,last,eos", "eval.tasks=[]")

    def counted(config: Config, *rest: Any) -> Any:
        made.append(str(config.pooling["_target_"]).rpartition(".")[2])
        if len(made) == 2:
            raise RuntimeError("the sky fell")
        return job(config, *rest)

    monkeypatch.setattr(train, "run_job", counted)
    code, printed = run(*sweep_of_three)
    assert code == 1
    assert "RuntimeError: the sky fell" in printed
    assert made == ["MeanPooling", "LastTokenPooling", "EosPooling"]
    code, printed = run(*sweep_of_three)
    assert code == 0, printed
    assert made[3:] == ["LastTokenPooling"]
    assert run(*sweep_of_three)[0] == 0
    assert len(made) == 4


@pytest.mark.slow
def test_the_table_holds_runs_that_were_done_before(run: Run) -> None:
    run("pooling=last")
    _, printed = run("-m", "pooling=mean,last")
    assert [line.split()[0] for line in printed.splitlines() if line.startswith(("mean ", "last "))] == ["mean", "last"]


def test_a_launcher_that_breaks_is_one_sentence_and_the_rest_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    run("pooling=last")

    def killed(*_: Any, **__: Any) -> None:
        raise OSError("a worker was killed\nlong story")

    monkeypatch.setattr(BasicLauncher, "launch", killed)
    code, printed = run("-m", "pooling=mean,last")
    assert code == 1
    assert "the launcher stopped (OSError: a worker was killed); the same command goes on from here" in printed
    assert "failed: was not made; the same command again makes it" in printed
    assert "Traceback" not in printed


def test_a_launcher_that_is_not_installed_is_one_sentence(run: Run) -> None:
    code, printed = run(
        "-m", "pooling=mean,last", "hydra/launcher=ray_tasks", "hydra.launcher._target_=hydra_plugins.no.Such"
    )
    assert code == 2
    assert "hydra/launcher: " in printed
    assert "pip install 'embedllm[" in printed
    assert "Traceback" not in printed


def test_jobs_that_are_refused_are_in_the_plan_with_their_error(run: Run, tmp_path: Path) -> None:
    code, _ = run("-m", "seed=-1,0", "eval.tasks=[]")
    assert code == 2
    (path,) = (tmp_path / "runs").glob("*/plan-*.json")
    bad, good = json.loads(path.read_text())["runs"]
    assert bad["name"] is None
    assert bad["error"] == "seed: -1 is not allowed; the lowest value is 0"
    assert good["error"] is None


@pytest.mark.slow
def test_the_weights_of_jobs_in_a_row_are_loaded_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedllm import backbone, blueprint, kept

    kept.forget()
    kept._prompt.cache_clear()
    loaded: list[Any] = []
    compiled: list[Any] = []
    load, compile_ = backbone._load_weights, blueprint.compile_prompt
    monkeypatch.setattr(backbone, "_load_weights", lambda *a, **k: loaded.append(a) or load(*a, **k))
    monkeypatch.setattr(blueprint, "compile_prompt", lambda *a, **k: compiled.append(a) or compile_(*a, **k))
    code, printed = run("-m", "pooling=mean,last", "prompt=none,cluster", "eval.cache=false", "eval.intrinsic=false")
    assert code == 0, printed
    assert len(loaded) == 1
    assert len(compiled) == 2


@pytest.mark.slow
def test_weights_that_were_kept_give_the_scores_of_weights_of_their_own(run: Run, tmp_path: Path) -> None:
    from embedllm import kept

    words = ("prompt=cluster", "eval.cache=false", "eval.intrinsic=false")
    run("-m", "pooling=mean,last", *words)
    kept.forget()
    run("pooling=last", *words, "study=alone")
    paths = list((tmp_path / "runs").glob("*/last-*/result.json"))
    first, second = (json.loads(path.read_text())["tasks"] for path in paths)
    assert first == second


@pytest.mark.slow
def test_a_training_keeps_no_weights(run: Run) -> None:
    from embedllm import kept

    run("eval.cache=false")
    assert kept._backbones
    code, printed = run(
        "trainer.max_steps=1", "trainer.batch_size=4", "trainer.warmup=0", "eval.tasks=[]", "adapter.r=2"
    )
    assert code == 0, printed
    assert not kept._backbones


@pytest.mark.slow
def test_sweep_state_is_that_of_the_last_program(run: Run) -> None:
    run("-m", "pooling=mean,last", "eval.tasks=[]")
    assert len(sweep.SWEEP.jobs) == 2
    run("eval.tasks=[]")
    assert not sweep.SWEEP.jobs
