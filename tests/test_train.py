"""``python train.py`` from end to end, on the tiny model; the program runs in this process."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import serving
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from embedllm import job, recipe, scan_job, sweep
from embedllm.run_lock import RunLock
from embedllm.runs import RunFolder
from embedllm.train import main

pytestmark = pytest.mark.usefixtures("quick_scores")

ROOT = Path(__file__).parents[1]
TASKS = "eval.tasks=[{}]"
ZERO_SHOT = ["trainer.max_steps=0"]
TRAINING = ["trainer.max_steps=2", "trainer.batch_size=8", "trainer.warmup=1", "adapter.r=4"]


def results(tmp_path: Path) -> dict[str, dict[str, Any]]:
    paths = (tmp_path / "runs").glob("*/*/result.json")
    return {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in paths}


def test_a_run_leaves_what_the_contract_says(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, printed = run("pooling=last", "prompt=cluster")
    assert code == 0
    (result,) = results(tmp_path).values()
    assert {"run_id", "study", "status", "choices", "config", "tasks", "score", "score_before"} <= set(result)
    assert {"suite", "versions", "train", "commit", "hardware"} <= set(result)
    assert (result["choices"]["pooling"], result["choices"]["prompt"], result["choices"]["model"]) == (
        "last",
        "cluster",
        "tiny",
    )
    assert result["tasks"]["animals"]["metric"] == "v_measure"
    assert result["score"] == result["tasks"]["animals"]["main_score"]
    folder = tmp_path / "runs" / "scratch" / f"last-cluster-{result['run_id']}"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "evidence",
        "metrics.csv",
        "model",
        "result.json",
    }
    metrics = list(csv.DictReader((folder / "metrics.csv").open()))
    assert metrics == [{"step": "0", "metric": "eval/animals", "value": repr(result["score"])}]
    assert f"{result['score']:.1f}" in printed


def test_a_sweep_writes_one_result_a_job_and_a_table(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, printed = run("-m", "pooling=mean,last,eos", "prompt=none,cluster")
    assert code == 0
    assert len(results(tmp_path)) == 6
    table = printed[printed.index("pooling  prompt") :].splitlines()
    assert [line.split()[:2] for line in table[2:8]] == [
        [pooling, prompt] for pooling in ("mean", "last", "eos") for prompt in ("none", "cluster")
    ]


def test_a_finished_run_is_skipped_before_torch_is_imported(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path
) -> None:
    run()
    check = (
        "import sys; from embedllm.train import main; code = main();"
        "print(code, [name for name in ('torch', 'mteb', 'transformers') if name in sys.modules])"
    )
    arguments = [
        "model=tiny",
        "pooling=mean",
        "prompt=none",
        f"runs_dir={tmp_path / 'runs'}",
        TASKS.format(labelled),
        "eval.max_documents=null",
        *ZERO_SHOT,
    ]
    done = subprocess.run([sys.executable, "-c", check, *arguments], capture_output=True, text=True, check=True)
    assert "already done" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_more_tasks_are_scored_without_scoring_the_old_ones_again(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path
) -> None:
    run()
    first = results(tmp_path)["mean-none"]["tasks"]["animals"]
    more = labelled.with_name("pairs.csv")
    more.write_text("sentence1,sentence2,score\na cat,a dog,1\na cat,the cat,4\nsky,car,0\nblue,red,2\n")
    code, printed = run(TASKS.format(f"{labelled},{more}"))
    assert code == 0
    tasks = results(tmp_path)["mean-none"]["tasks"]
    assert tasks["animals"] == first
    assert tasks["pairs"]["metric"] == "cosine_spearman"
    assert "pooling  prompt  animals  pairs  mean" in " ".join(printed.split("\n")).replace("   ", "  ")


@pytest.mark.slow
def test_the_mean_and_the_table_are_of_the_tasks_asked_for(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path
) -> None:
    def row(printed: str) -> list[str]:
        return [line for line in printed.splitlines() if line.startswith("mean  ")]

    alone = row(run()[1])
    more = labelled.with_name("pairs.csv")
    more.write_text("sentence1,sentence2,score\na cat,a dog,1\na cat,the cat,4\nsky,car,0\nblue,red,2\n")
    code, printed = run(TASKS.format(more))
    assert code == 0
    assert "animals" not in printed
    result = results(tmp_path)["mean-none"]
    assert result["tasks"].keys() == {"animals", "pairs"}
    assert result["score"] == result["tasks"]["pairs"]["main_score"]
    assert row(run()[1]) == alone
    assert len(alone) == 1


@pytest.mark.slow
def test_other_weights_in_the_same_folder_are_another_run(
    run: Callable[..., tuple[int, str]], tmp_path: Path, tiny_path: Path
) -> None:
    shutil.copytree(tiny_path, tmp_path / "decoder")
    run("eval.tasks=[]", f"model.name={tmp_path / 'decoder'}")
    weights = tmp_path / "decoder" / "model.safetensors"
    state = {name: 2 * tensor for name, tensor in load_file(weights).items()}
    save_file(state, weights, metadata={"format": "pt"})
    recipe._model_identity.cache_clear()
    _, printed = run("eval.tasks=[]", f"model.name={tmp_path / 'decoder'}")
    assert "already done" not in printed
    assert len(list((tmp_path / "runs").glob("*/*/result.json"))) == 2


def test_an_interrupt_while_scoring_keeps_the_tasks_that_are_done(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm.embedder import Embedder

    always = ("eval.cache=false", "eval.intrinsic=false")
    more = labelled.with_name("more.csv")
    more.write_text(labelled.read_text() + "another,cat\n")
    encode = Embedder.encode
    seen = []

    def interrupted(self: Any, texts: Any, **settings: Any) -> Any:
        seen.append(len(texts))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return encode(self, texts, **settings)

    both = TASKS.format(f"{labelled},{more}")
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "encode", interrupted)
        assert run(both, *always)[0] == 130
    assert not results(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "encode", lambda *args, **more: seen.append(len(args[1])) or encode(*args, **more))
        assert run(both, *always)[0] == 0
    assert seen == [36, 37, 37]
    assert results(tmp_path)["mean-none"]["tasks"].keys() == {"animals", "more"}


@pytest.mark.slow
def test_the_flag_of_a_sweep_may_stand_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=tiny", "eval.tasks=[]", *ZERO_SHOT, f"runs_dir={tmp_path}", "-m", "pooling=mean,last"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    assert main() == 0
    assert len(list(tmp_path.glob("*/*/result.json"))) == 2


@pytest.mark.slow
def test_changed_documents_are_scored_again(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path
) -> None:
    run()
    labelled.write_text(labelled.read_text() + "one more animal,cat\n")
    code, printed = run()
    assert code == 0
    assert "already done" not in printed
    assert results(tmp_path)["mean-none"]["tasks"]["animals"]["documents"] == 37


@pytest.mark.slow
def test_a_task_that_cannot_be_had_leaves_the_others_and_is_tried_again(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path
) -> None:
    both = TASKS.format(f"{labelled},TwentyNewsgroupsClustering.v2")
    code, printed = run(both)
    result = results(tmp_path)["mean-none"]
    assert code == 1
    assert result["status"] == "incomplete"
    assert result["score"] is None
    assert "main_score" in result["tasks"]["animals"]
    assert "TwentyNewsgroupsClustering.v2 was not scored" in printed
    assert run(both)[0] == 1
    assert "already done" in run(TASKS.format(labelled))[1]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "gpt2"])
def test_a_folder_of_another_architecture_is_scored(
    run: Callable[..., tuple[int, str]], tmp_path: Path, make_decoder: Callable[[str], Path], architecture: str
) -> None:
    folder = make_decoder(architecture)
    code, printed = run(f"model.name={folder}", "model.max_length=64", "prompt=cluster", "pooling=last")
    assert code == 0, printed
    (result,) = results(tmp_path).values()
    assert result["choices"]["model"] == folder.name
    assert result["score"] > 0


def test_no_tasks_is_allowed(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    assert run("eval.tasks=[]")[0] == 0
    assert results(tmp_path)["mean-none"]["score"] is None


def test_a_template_of_ones_own_is_called_custom(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    assert run("eval.tasks=[]", 'prompt.template="Topic of {text}:"')[0] == 0
    assert list(results(tmp_path)) == ["mean-custom"]


def test_a_bad_job_does_not_stop_the_others(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, printed = run("-m", "model.layers=99,1")
    assert code == 2
    assert "model.layers: 99" in printed
    assert "Traceback" not in printed
    assert len(results(tmp_path)) == 1
    (error,) = (tmp_path / "runs").glob("*/*/error.txt")
    assert error.read_text().startswith("model.layers: 99")


@pytest.mark.parametrize("cache", ["true", "false"])
def test_weights_that_cannot_be_loaded_fail_the_run_and_no_task(
    run: Callable[..., tuple[int, str]], tmp_path: Path, tiny_path: Path, cache: str
) -> None:
    shutil.copytree(tiny_path, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20_000])
    code, printed = run("-m", f"model.name={tmp_path / 'damaged'}", f"eval.cache={cache}")
    assert code == 2
    assert "was not scored" not in printed
    assert not results(tmp_path)
    (error,) = (tmp_path / "runs").glob("*/*/error.txt")
    assert error.read_text().startswith(f"model.name: the weights of '{tmp_path / 'damaged'}' cannot be loaded")
    assert printed.endswith(error.read_text())


def test_a_crash_is_written_down_and_the_run_is_tried_again(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm.scan.cached_encoder import CachedEncoder

    def crash(*_: Any) -> None:
        raise RuntimeError("the sky fell")

    with monkeypatch.context() as patch:
        patch.setattr(CachedEncoder, "save", crash)
        code, printed = run()
    assert code == 1
    assert "RuntimeError: the sky fell" in printed
    (error,) = (tmp_path / "runs").glob("*/*/error.txt")
    assert "Traceback" in error.read_text()
    assert run()[0] == 0
    assert not error.exists()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["pooling=meen"], "pooling: there is no 'meen'; did you mean 'mean'?"),
        (["prompt=clster"], "prompt: there is no 'clster'; did you mean 'cluster'?"),
        (["poolng=mean"], "poolng: no such setting; did you mean 'pooling'?"),
        (["hydra.foo=1"], "hydra.foo: no such setting; did you mean 'hydra.job'?"),
        (["hydra.job.nam=1"], "hydra.job.nam: no such setting; did you mean 'hydra.job.name'?"),
        (["nowhere.near=1"], "nowhere: no such setting; there are: study, seed, runs_dir, model"),
        (["trainer.devics=2"], "trainer.devics: no such setting; did you mean 'trainer.devices'?"),
        (["+trainer.devics=2"], "trainer.devics: no such setting; did you mean 'trainer.devices'?"),
        (["model.layers=abc"], "model.layers: 'abc' is not a whole number"),
        (["model.final_norm=maybe"], "model.final_norm: 'maybe' is not true or false"),
        (["eval.tasks=a.csv"], "eval.tasks: 'a.csv' is not a list; write [a,b]"),
        (["pooling=mean,last"], "'pooling=mean,last' names several values; add -m to run each of them"),
        (["prompt.template=a {text}"], "'prompt.template=a {text}' cannot be read as setting=value"),
        (["prompt.template=nothing"], "prompt.template: 'nothing' has no {text} slot"),
        (["~pooling"], "pooling: nothing is chosen"),
        (["+pooling.dropout=1"], "pooling.dropout: no such setting"),
        (["model.layers=999"], "model.layers: 999"),
        (["model.attention=both"], "model.attention: 'both'"),
        (["model.dtype=float8"], "model.dtype: 'float8'"),
        (["model.max_length=3"], "model.max_length: 3 leaves"),
        (["model.name=./nowhere"], "model.name: "),
        (["model.name=embedded:huge"], "model.name: "),
        (["eval.tasks=[nope.csv]"], "eval.tasks: 'nope.csv': no file"),
        (["eval.tasks=[TwentyNewsgroupClustering]"], "eval.tasks: 'TwentyNewsgroupClustering'"),
        (["eval.tasks=[embedded:nope]"], "eval.tasks: "),
        (["eval.max_documents=1"], "eval.max_documents: 1 is not allowed"),
        (["pooling.pool_over=suffix"], "pooling.pool_over: 'suffix', but nothing follows the text"),
        (["pooling=eos", "pooling.pool_over=text"], "pooling.pool_over: 'text' leaves out the EOS"),
        (["seed=-1"], "seed: -1 is not allowed"),
        (["-m", "trainer.devices=2"], "trainer.devices: 2 with -m"),
        (["export=true", "pooling=attention"], "pooling: 'AttentionPooling' has no sentence-transformers equivalent"),
        ([*TRAINING, "export=true", "pooling.pool_over=text"], "pooling.pool_over: 'text' has no sentence-transf"),
        ([*TRAINING, "export=true", "model.final_norm=false"], "model.final_norm: False cannot be exported"),
        ([*TRAINING, "export=true", "dry_run=true", "pooling=attention"], "pooling: 'AttentionPooling' has no"),
        (["data/augment=null"], "data/augment: null is no option; write data.augment=null to have none, or choose"),
        (["-m", "prompt=null,none"], "prompt: null is no option; leave it out for the default, or choose one of: ccw"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_no_run(
    run: Callable[..., tuple[int, str]], tmp_path: Path, overrides: list[str], sentence: str
) -> None:
    from embedllm import backbone

    loaded = []
    original = backbone._load_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "_load_weights", lambda *args: loaded.append(args) or original(*args))
        code, printed = run(*overrides)
    lines = [line for line in printed.splitlines() if not line.startswith(("[", str(tmp_path)))]
    assert code == 2
    assert len(lines) == 1, printed
    assert lines[0].startswith(sentence)
    assert not loaded
    assert not list((tmp_path / "runs").glob("*/*/"))


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"text,label\n", "no rows"),
        (b"\x00\x01\x02\x03", "zero byte"),
        (b"\xff\xfeh\x00", "zero byte"),
        (b"words,topic\na,b\n", "'words'"),
        (b"text,label\na,b\nc,b\n", "one label"),
    ],
)
def test_a_bad_file_is_one_sentence(
    run: Callable[..., tuple[int, str]], tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    code, printed = run(TASKS.format(path))
    assert code == 2
    assert sentence in printed
    assert "Traceback" not in printed


def run_of(tmp_path: Path) -> RunFolder:
    (path,) = (tmp_path / "runs" / "scratch").glob("mean-*")
    return RunFolder(path)


@pytest.mark.parametrize("kind", ["run", "sweep", "scan"])
def test_a_run_that_another_process_is_at_work_on_is_left_alone(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    words = {"run": [], "sweep": ["-m"], "scan": ["scan.poolings=[mean]"]}[kind]
    target = scan_job if kind == "scan" else job
    held: list[RunFolder] = []

    def folder_of_another(*args: Any) -> RunFolder:
        held.append(original(*args))
        held[0].create()
        if not locks:
            locks.append(RunLock(held[0].lock))
            locks[0].acquire()
        return held[0]

    locks: list[RunLock] = []
    name = "scan_folder" if kind == "scan" else "run_folder"
    original = getattr(target, name)
    monkeypatch.setattr(sweep, name, folder_of_another)
    code, printed = run(*words)
    assert code == 2
    sentence = f"RUN: {str(held[0].path)!r}: another process is at work on this run; wait for it or stop it"
    assert sentence in printed
    assert [path.name for path in held[0].path.iterdir()] == [".lock"]
    for lock in locks:
        lock.release()


def test_a_run_that_was_finished_meanwhile_is_not_made_again(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = run_of(tmp_path).result.stat().st_mtime_ns
    monkeypatch.setattr(sweep, "finished", lambda *_: None)  # looked before the other process was done
    monkeypatch.setattr(job, "plan_embedder", lambda *_: pytest.fail("it was made again"))
    assert run()[0] == 0
    assert run_of(tmp_path).result.stat().st_mtime_ns == before


def test_a_finished_run_needs_no_lock(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(RunFolder, "locked", lambda _: pytest.fail("it was locked"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, printed = run()
    assert code == 0
    assert "already done" in printed


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    run("eval.tasks=[]")
    folder = run_of(tmp_path)
    folder.result.unlink()
    (folder.path / ".result.json.999999999.tmp").write_text("{")
    (folder.path / ".export.999999999.partial").mkdir()
    assert run("eval.tasks=[]")[0] == 0
    assert not list(folder.path.glob(".*"))


@pytest.mark.slow
def test_an_export_that_fails_leaves_the_old_one_and_says_why(
    run: Callable[..., tuple[int, str]], tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("export=true")[0] == 0
    folder = run_of(tmp_path)
    before = sorted(path.relative_to(folder.path) for path in folder.export.rglob("*"))
    more = labelled.with_name("more.csv")
    more.write_text(labelled.read_text() + "another,cat\n")

    def full_disk(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full_disk)
    code, printed = run("export=true", TASKS.format(f"{labelled},{more}"))
    assert code == 1
    assert sorted(path.relative_to(folder.path) for path in folder.export.rglob("*")) == before
    last = printed.splitlines()[-1]
    assert last == (
        f"{folder.path.name} failed: {folder.export}: Error while serializing: No space left on device (os error 28)"
    )
    assert not folder.error.exists()
    assert "Use it, in Python" not in printed


@pytest.mark.slow
def test_a_finished_run_is_exported_if_its_model_can_be(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pooling=attention", *TRAINING, "eval.tasks=[]")
    monkeypatch.setattr("embedllm.storage.load_model", lambda *_: pytest.fail("weights were loaded"))
    code, printed = run("pooling=attention", *TRAINING, "eval.tasks=[]", "export=true")
    assert code == 2
    assert "pooling: 'AttentionPooling' has no sentence-transformers equivalent" in printed
    assert "Traceback" not in printed


@pytest.mark.thinned(3)
@pytest.mark.parametrize("words", [[], ["-m", "pooling=mean,last"]])
def test_a_dry_run_leaves_nothing(run: Callable[..., tuple[int, str]], tmp_path: Path, words: list[str]) -> None:
    code, printed = run(*words, *TRAINING, "dry_run=true", "eval.tasks=[]")
    assert code == 0
    assert "minutes for 2 steps" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["animals.csv"]


@pytest.mark.slow
def test_a_dry_run_leaves_what_is_there(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    run("eval.tasks=[]")
    before = sorted((tmp_path / "runs").rglob("*"))
    assert run(*TRAINING, "dry_run=true", "eval.tasks=[]")[0] == 0
    assert sorted((tmp_path / "runs").rglob("*")) == before


@pytest.mark.slow
def test_a_run_without_tasks_says_where_it_is(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, printed = run(*TRAINING, "eval.tasks=[]")
    assert code == 0
    assert f"no task was scored; the run is in {run_of(tmp_path).path}" in printed.splitlines()
    assert "before" not in printed
    assert "pooling  prompt" not in printed


@pytest.mark.slow
def test_where_positives_came_from_is_in_the_result(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    run(*TRAINING, "eval.tasks=[]", "data=wikipedia_articles")
    run(*TRAINING, "eval.tasks=[]", "study=other")
    found = {path.parts[-3]: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/result.json")}
    assert {study: result["train"]["positives"] for study, result in found.items()} == {
        "scratch": "label",
        "other": "augment",
    }


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_is_one_sentence(run: Callable[..., tuple[int, str]]) -> None:
    code, printed = run("runs_dir=/proc/embedllm")
    assert code == 2
    assert printed.startswith("runs_dir: ")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job", "--resolve"]])
def test_help_and_config_are_printed(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pooling" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["wandb", "tensorboard", "[wandb,tensorboard]"])
def test_loggers_come_on_top_of_metrics(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run(f"logger={logger}")[0] == 0
    (folder,) = (tmp_path / "runs" / "scratch").glob("mean-*")
    assert (folder / "metrics.csv").exists()
    if "wandb" in logger:
        (offline,) = (folder / "wandb").glob("offline-run-*/*.wandb")
        assert b"eval/animals" in offline.read_bytes()
    if "tensorboard" in logger:
        (events,) = (folder / "tensorboard").glob("events.*")
        assert b"eval/animals" in events.read_bytes()


def test_tasks_that_replace_those_of_a_suite_are_told(run: Callable[..., tuple[int, str]], labelled: Path) -> None:
    code, printed = run("suite=quick", "prompt=none")
    assert code == 0
    assert "suite: quick was chosen, but eval.tasks names other tasks, and those count" in printed


@pytest.mark.slow
def test_the_requests_to_the_hub_are_not_told(tmp_path: Path) -> None:
    with serving() as hub:
        online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        done = subprocess.run(
            [sys.executable, "-m", "embedllm.train", "model.name=someone/model", f"runs_dir={tmp_path}"],
            env=online | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    assert "GET /api/models/someone/model" in hub.calls
    assert "HTTP Request" not in done.stdout + done.stderr
