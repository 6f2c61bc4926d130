"""``python train.py scan.poolings=[...]``: every cell is the run that its settings make."""

import csv
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from embedllm import Embedder
from embedllm.pooling import LastTokenPooling
from embedllm.scan.cells import depths

pytestmark = pytest.mark.usefixtures("quick_scores")

Run = Callable[..., tuple[int, str]]

SCAN = ("scan.poolings=[mean,last,eos]", "scan.every=1")
NO_CACHE = ("eval.cache=false", "eval.intrinsic=false")


def scans(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*/scan-*/scan.json"))]


def run_score(folder: Path) -> float:
    (path,) = (folder / "runs" / "alone").glob("*/result.json")
    return float(json.loads(path.read_text())["score"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "cell"),
    [
        ("none", ("mean", "all", 2, False)),
        ("cluster", ("last", "all", 1, True)),
        ("cluster", ("eos", "all", 2, True)),
        ("cluster", ("mean", "text", 1, False)),
    ],
    ids=str,
)
def test_a_cell_is_the_run_with_its_settings(
    run: Run, tmp_path: Path, prompt: str, cell: tuple[str, str, int, bool]
) -> None:
    pooling, pool_over, layers, centring = cell
    assert run(*SCAN, f"prompt={prompt}", "scan.pool_over=[all,text,suffix]")[0] == 0
    settings = [f"pooling={pooling}", f"pooling.pool_over={pool_over}", f"model.layers={layers}"]
    assert run(*settings, f"centring={str(centring).lower()}", f"prompt={prompt}", "study=alone", *NO_CACHE)[0] == 0
    (scan,) = scans(tmp_path)
    names = ("pooling", "pool_over", "layers", "centring")
    (found,) = (one for one in scan["cells"] if tuple(one[name] for name in names) == cell)
    assert found["tasks"]["animals"]["main_score"] == pytest.approx(run_score(tmp_path), abs=1e-4)


@pytest.mark.slow
def test_cells_that_are_left_out_are_equal_to_others_or_impossible(run: Run, tmp_path: Path) -> None:
    every = "scan.pool_over=[all,text,suffix]"
    assert run("-m", "scan.poolings=[mean,last,eos]", every, "prompt=none,cluster,cluster_the_text")[0] == 0
    found = {
        (scan["choices"]["prompt"], cell["pooling"], cell["pool_over"])
        for scan in scans(tmp_path)
        for cell in scan["cells"]
    }
    assert {over for prompt, _, over in found if prompt == "none"} == {"all"}
    assert {key[1:] for key in found if key[0] == "cluster"} == {
        *(("mean", over) for over in ("all", "text", "suffix")),
        *(("last", over) for over in ("all", "text")),
        ("eos", "all"),
    }
    assert {key[1:] for key in found if key[0] == "cluster_the_text"} == {
        ("mean", "all"), ("mean", "text"), ("last", "all"), ("last", "text"), ("eos", "all"),
    }  # fmt: skip


def test_pooling_over_the_suffix_gives_the_last_token_all_the_same(tiny_path: Path) -> None:
    template = "Text: {text} in one word:"
    vectors = [
        Embedder.from_pretrained(
            str(tiny_path), template=template, head=partial(LastTokenPooling, pool_over=over)
        ).encode(["a", "b c"])
        for over in ("all", "suffix")
    ]
    assert np.array_equal(*vectors)


@pytest.mark.slow
def test_a_finished_scan_is_skipped_and_a_new_task_alone_is_scored(
    run: Run, tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm.eval import score

    assert run(*SCAN)[0] == 0
    (first,) = scans(tmp_path)
    assert "already done" in run(*SCAN)[1]
    more = labelled.with_name("more.csv")
    more.write_text(labelled.read_text() + "another,cat\n")
    scored = []
    whole = score._score
    monkeypatch.setattr(score, "_score", lambda *args: scored.append(args[1].name) or whole(*args))
    assert run(*SCAN, f"eval.tasks=[{labelled},{more}]")[0] == 0
    assert scored == ["more"] * len(first["cells"])
    (second,) = scans(tmp_path)
    for before, after in zip(first["cells"], second["cells"], strict=True):
        assert after["tasks"]["animals"] == before["tasks"]["animals"]


def test_a_pooling_that_is_chosen_for_a_scan_is_said_to_have_no_effect(run: Run) -> None:
    assert "pooling=mean has no effect on a scan; scan.poolings names its heads" in run("scan.poolings=[last]")[1]


@pytest.mark.slow
def test_a_sweep_over_what_a_scan_does_not_heed_is_one_scan(run: Run, tmp_path: Path) -> None:
    code, printed = run("-m", "scan.poolings=[last]", "pooling=mean,last", "prompt=cluster")
    assert code == 0
    assert len(scans(tmp_path)) == 1
    assert "2 ways to make vectors were tried" in printed
    assert printed.count("has no effect on a scan; scan.poolings names its heads") == 1


@pytest.mark.slow
def test_an_interrupt_loses_no_cell(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedllm.eval import score

    whole = score._score
    calls = []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(score, "_score", interrupted)
    assert run(*SCAN)[0] == 130
    (half,) = scans(tmp_path)
    assert (len(half["cells"]), half["complete"]) == (3, False)
    assert run(*SCAN)[0] == 0
    (whole_scan,) = scans(tmp_path)
    assert (len(whole_scan["cells"]), whole_scan["complete"]) == (12, True)
    assert len(calls) == 13  # the fourth twice
    assert run(*SCAN, "study=uninterrupted")[0] == 0
    scores = [[cell["tasks"]["animals"]["main_score"] for cell in scan["cells"]] for scan in scans(tmp_path)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_the_winner_is_an_experiment_with_the_score_of_the_ranking(run: Run, tmp_path: Path) -> None:
    code, printed = run("-m", *SCAN, "prompt=none,cluster", "study=scan")
    assert code == 0
    study = tmp_path / "runs" / "scan"
    with (study / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert (study / "heat_map.png").stat().st_size > 10_000
    assert "24 ways to make vectors were tried on these tasks" in printed
    assert "tasks: custom (1 task, mteb " in printed
    overlay = study / "experiment" / "winner.yaml"
    assert overlay.read_text().startswith("# @package _global_\n# The best of 24 ways")
    assert yaml.safe_load(overlay.read_text())["centring"] == (rows[0]["centring"] == "true")
    code, printed = run(f"--config-dir={study}", "experiment=winner", "study=alone", *NO_CACHE)
    assert code == 0, printed
    assert run_score(tmp_path) == pytest.approx(scores[0], abs=1e-4)


def test_a_prompt_of_ones_own_is_in_the_overlay(run: Run, tmp_path: Path) -> None:
    assert run("scan.poolings=[last]", 'prompt.template="Topic of {text}:"', "study=scan")[0] == 0
    overlay = yaml.safe_load((tmp_path / "runs" / "scan" / "experiment" / "winner.yaml").read_text())
    assert overlay["prompt"]["template"] == "Topic of {text}:"
    assert [path.name[:11] for path in (tmp_path / "runs" / "scan").glob("scan-*")] == ["scan-custom"]


def test_a_task_that_cannot_be_had_leaves_the_others(run: Run, tmp_path: Path, labelled: Path) -> None:
    code, printed = run("scan.poolings=[mean]", f"eval.tasks=[{labelled},TwentyNewsgroupsClustering.v2]")
    assert code == 1
    assert "TwentyNewsgroupsClustering.v2 was not scored" in printed
    (scan,) = scans(tmp_path)
    assert ["main_score" in cell["tasks"]["animals"] for cell in scan["cells"]] == [True, True]
    assert not (tmp_path / "runs" / "scratch" / "ranking.csv").exists()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["scan.poolings=[mean,nope]"], "scan.poolings: 'nope' is not one of attention, concat, eos,"),
        (["scan.poolings=[mean]", "scan.pool_over=[everything]"], "scan.pool_over: 'everything' is not one of all,"),
        (["scan.poolings=[mean]", "scan.pool_over=[all,all]"], "scan.pool_over: ['all', 'all'] is not a list of one"),
        (["scan.poolings=[mean]", "scan.centring=[]"], "scan.centring: [] is not a list of one or more"),
        (["scan.poolings=[mean]", "scan.every=0"], "scan.every: 0 is not allowed; the lowest value is 1"),
        (["scan.poolings=[mean]", "trainer.max_steps=3"], "but trainer.max_steps is 3, and a scan trains nothing"),
        (["scan.poolings=[mean]", "centring=true"], "centring: True has no effect on a scan; scan.centring says"),
        (["scan.poolings=[mean]", "export=true"], "export: True has no effect on a scan; it keeps no model, so"),
        (["scan.poolings=[mean]", "eval.dev=[a.csv]"], "eval.dev: ['a.csv'] has no effect on a scan; it trains noth"),
        (["scan.poolings=[last]", "pooling.pool_over=text"], "pooling.pool_over: 'text' has no effect on a scan; use"),
        (["scan.poolings=[last]", "pooling.normalize=false"], "pooling.normalize: False has no effect on a scan; its"),
        (["scan.poolings=[mean]", "eval.tasks=[]"], "eval.tasks: [], but a scan without a task finds nothing"),
        (["scan.poolings=[mean]", "model.layers=9"], "model.layers: 9"),
        (["scan.poolings=mean"], "scan.poolings"),
        (["scan.pooling=[mean]"], "did you mean"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, tmp_path: Path, overrides: list[str], sentence: str) -> None:
    code, printed = run(*overrides)
    assert code == 2
    assert sentence in printed
    assert "Traceback" not in printed
    assert not list((tmp_path / "runs").glob("*/*/scan.json"))


@pytest.mark.parametrize(("every", "expected"), [(None, [7]), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 4, 7]), (9, [7])])
def test_depths_are_counted_from_the_last_layer(every: int | None, expected: list[int]) -> None:
    assert depths(7, every) == expected


@pytest.mark.slow
def test_scans_of_two_models_and_templates_are_told_apart(run: Run, tmp_path: Path, tiny_path: Path) -> None:
    models = "model.attention=causal,bidirectional"
    templates = 'prompt.template="The {text} is","About {text}: topic"'
    assert run("-m", "scan.poolings=[mean]", "scan.every=1", models, templates, "study=scan")[0] == 0
    with (tmp_path / "runs" / "scan" / "ranking.csv").open() as file:
        rows = [tuple(value for name, value in row.items() if name != "score") for row in csv.DictReader(file)]
    assert len(rows) == 16
    keys = [tuple(row[:-1]) for row in rows]
    assert len(set(keys)) == 16
    assert {"causal", "bidirectional", "The {text} is", "About {text}: topic"} <= {
        value for row in rows for value in row
    }


@pytest.mark.slow
def test_scans_of_different_tasks_are_not_ranked(run: Run, tmp_path: Path, labelled: Path) -> None:
    more = labelled.with_name("more.csv")
    more.write_text(labelled.read_text() + "another,cat\n")
    code, printed = run("-m", "scan.poolings=[mean]", f"eval.tasks=[{labelled}],[{more}]", "study=scan")
    assert code == 0
    assert "no ranking: the scans are of different tasks" in printed
    assert not (tmp_path / "runs" / "scan" / "ranking.csv").exists()


@pytest.mark.slow
def test_an_interrupt_while_a_task_is_added_loses_no_cell(
    run: Run, tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm.eval import score

    assert run(*SCAN)[0] == 0
    more = labelled.with_name("more.csv")
    more.write_text(labelled.read_text() + "another,cat\n")
    whole, calls = score._score, []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(score, "_score", interrupted)
        assert run(*SCAN, f"eval.tasks=[{labelled},{more}]")[0] == 130
    (scan,) = scans(tmp_path)
    assert ["animals" in cell["tasks"] for cell in scan["cells"]] == [True] * 12
    assert sum("more" in cell["tasks"] for cell in scan["cells"]) == 2


@pytest.mark.slow
def test_a_scan_without_the_cache_keeps_no_vector(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedllm.scan.vector_cache import VectorCache

    folders = []
    put = VectorCache.put
    monkeypatch.setattr(VectorCache, "put", lambda self, *args: folders.append(self.folder) or put(self, *args))
    assert run(*SCAN, "eval.cache=false", 'prompt.template="Kept nowhere: {text}"')[0] == 0
    assert folders
    assert not any(folder.exists() for folder in folders)


@pytest.mark.slow
def test_the_overlay_has_every_setting_of_the_model(run: Run, tmp_path: Path) -> None:
    settings = ["prompt=cluster", "prompt.bos=true", "model.max_length=40"]
    assert run("scan.poolings=[mean]", *settings, "study=scan")[0] == 0
    (scan,) = scans(tmp_path)
    best = max(cell["score"] if "score" in cell else cell["tasks"]["animals"]["main_score"] for cell in scan["cells"])
    assert run(f"--config-dir={tmp_path / 'runs' / 'scan'}", "experiment=winner", "study=alone", *NO_CACHE)[0] == 0
    assert run_score(tmp_path) == pytest.approx(best, abs=1e-4)


def test_weights_that_are_no_numbers_are_one_sentence(run: Run, tmp_path: Path, tiny_path: Path) -> None:
    shutil.copytree(tiny_path, tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    state = load_file(weights)
    next(tensor for name, tensor in state.items() if "layers.1.mlp.down_proj" in name)[0, 0] = float("nan")
    save_file(state, weights, metadata={"format": "pt"})
    code, printed = run("scan.poolings=[mean]", "scan.every=1", f"model.name={tmp_path / 'broken'}")
    assert code == 2
    assert f"model.name: the hidden states of '{tmp_path / 'broken'}' in float32 hold NaN or infinity" in printed
    assert "norm" not in printed.splitlines()[-1]


def test_nothing_to_scan_is_a_sentence(run: Run) -> None:
    code, printed = run("scan.poolings=[mean]", "scan.pool_over=[suffix]", "prompt=none")
    assert code == 2
    assert "scan.pool_over: ['suffix'] leaves nothing to scan with the prompt '{text}'" in printed
