"""Training through the program: what it leaves, and that stopping it anywhere changes no bit."""

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from embedllm import Embedder
from embedllm.eval.bootstrap import interval
from embedllm.eval.evidence import Evidence
from embedllm.eval.paired import differences
from embedllm.processes import Processes
from embedllm.runs import RunFolder
from embedllm.train import main
from embedllm.training import autocast_dtype

pytestmark = pytest.mark.usefixtures("quick_scores")

ROOT = Path(__file__).parents[1]
STEPS = 8


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """A training of some seconds, with dropout, accumulation and augmentation."""
    labels = tmp_path / "labels.csv"
    rows = [f"the {word} number {i} is here,{word}" for i in range(8) for word in ("river", "engine", "bread")]
    labels.write_text("text,label\n" + "\n".join(rows) + "\n")
    return [
        "model=tiny",
        "prompt=cluster",
        "pooling=last",
        "adapter.r=4",
        "adapter.dropout=0.2",
        f"trainer.max_steps={STEPS}",
        "trainer.batch_size=8",
        "trainer.accumulate=2",
        "trainer.warmup=2",
        "trainer.checkpoint_every=2",
        "trainer.micro_batch_tokens=600",
        f"eval.tasks=[{labels}]",
        "eval.max_documents=null",
        "eval.intrinsic=false",
    ]


def train(settings: list[str], runs: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *settings, f"runs_dir={runs}", *more])
    return main()


def only_run(runs: Path) -> Path:
    (folder,) = runs.glob("*/*")
    return folder


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def metrics(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def comparable(run: Path) -> dict[str, Any]:
    """The result without what time and place decide."""
    result = json.loads((run / "result.json").read_text())
    for name in ("seconds", "pairs_per_second", "peak_memory_gb"):
        result["train"].pop(name)
    result["config"].pop("runs_dir")
    result.pop("seconds")
    return result


def test_a_training_leaves_scores_before_and_after_and_a_small_model(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(settings, tmp_path / "runs", monkeypatch) == 0
    run = only_run(tmp_path / "runs")
    assert {path.name for path in run.iterdir()} == {"config.yaml", "evidence", "metrics.csv", "model", "result.json"}
    model = {str(path.relative_to(run / "model")) for path in (run / "model").rglob("*") if path.is_file()}
    assert model == {
        "embedllm.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }
    result = json.loads((run / "result.json").read_text())
    task = result["tasks"]["labels"]
    assert task["before"] is not None
    assert task["gain"]["low"] <= task["gain"]["high"]
    assert result["score_before"] == task["before"]
    assert result["train"]["steps"] == STEPS
    assert result["train"]["pairs"] == STEPS * 8 * 2
    assert 0 < result["train"]["padding_efficiency"] <= 1
    assert result["train"]["precision"] in ("float32", "bfloat16")
    steps = [int(row[0]) for row in metrics(run) if row[1] == "train/loss"]
    assert steps == list(range(1, STEPS + 1))
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.slow
def test_the_evidence_of_both_stages_is_kept(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(settings, tmp_path / "runs", monkeypatch) == 0
    run = only_run(tmp_path / "runs")
    before, after = (Evidence.load(run / "evidence" / stage / "labels.npz") for stage in ("before", "after"))
    assert before.documents.tolist() == after.documents.tolist()
    assert sorted(set(before.labels.tolist())) == ["bread", "engine", "river"]
    task = json.loads((run / "result.json").read_text())["tasks"]["labels"]
    assert (before.score, after.score) == (task["before"], task["main_score"])
    assert interval(differences(before, after)) == tuple(task["gain"].values())


@pytest.mark.slow
def test_the_saved_model_is_the_trained_one(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings, tmp_path / "runs", monkeypatch)
    run = only_run(tmp_path / "runs")
    trained = Embedder.load(run)
    base = Embedder.from_pretrained(trained.spec, template=trained.prompt.template, head=type(trained.head))
    vectors, untrained = trained.encode(["a river"]), base.encode(["a river"])
    assert abs(vectors - untrained).max() > 1e-4


@pytest.mark.slow
def test_snapshots_are_the_models_of_their_steps_and_change_no_bit(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(settings, tmp_path / "a", monkeypatch) == 0
    assert train(settings, tmp_path / "b", monkeypatch, f"trainer.snapshots=[3,{STEPS}]") == 0
    plain, run = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    assert (run.name, weights(run)) == (plain.name, weights(plain))
    kept = RunFolder(run).snapshots()
    assert list(kept) == [3, STEPS]
    vectors = [Embedder.load(path).encode(["a river"]) for path in (kept[3], kept[STEPS], run)]
    assert (vectors[1] == vectors[2]).all()
    assert abs(vectors[0] - vectors[2]).max() > 1e-5


def test_a_snapshot_after_the_last_step_is_refused(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(settings, tmp_path, monkeypatch, "trainer.snapshots=[2,9]") == 2
    assert "trainer.snapshots: 9 is not a step of this training; they are 1 to 8" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_command_gives_the_same_bits_and_another_seed_does_not(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for runs in ("a", "b"):
        train(settings, tmp_path / runs, monkeypatch)
    train(settings, tmp_path / "c", monkeypatch, "seed=1")
    a, b, c = (only_run(tmp_path / runs) for runs in "abc")
    assert weights(a) == weights(b) != weights(c)
    assert metrics(a) == metrics(b)


@pytest.mark.slow
def test_scoring_or_not_changes_no_bit_of_the_weights(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings, tmp_path / "a", monkeypatch)
    train([s for s in settings if not s.startswith("eval.tasks")], tmp_path / "b", monkeypatch, "eval.tasks=[]")
    assert weights(only_run(tmp_path / "a")) == weights(only_run(tmp_path / "b"))


@pytest.mark.slow
def test_a_signal_that_a_launcher_handles_is_left_to_it(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit does, which puts the job back into the queue."""
    from embedllm.module import EmbedderModule

    seen: list[int] = []
    count = EmbedderModule._count

    def count_and_signal(self: EmbedderModule, *arguments: Any) -> None:
        count(self, *arguments)
        os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr(EmbedderModule, "_count", count_and_signal)
    before = signal.signal(signal.SIGUSR2, lambda number, _: seen.append(number))
    try:
        assert train(settings, tmp_path / "run", monkeypatch) == 0
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [signal.SIGUSR2] * STEPS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "number"), [(3, signal.SIGINT), (3, signal.SIGTERM), (STEPS, signal.SIGTERM), (3, signal.SIGUSR1)]
)
def test_an_interrupt_ends_after_a_whole_step_and_the_same_command_goes_on(
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    at: int,
    number: signal.Signals,
) -> None:
    from embedllm.module import EmbedderModule

    train(settings, tmp_path / "whole", monkeypatch)
    count = EmbedderModule._count

    def count_and_signal(self: EmbedderModule, *arguments: Any) -> None:
        count(self, *arguments)
        if self.totals.steps == at:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(EmbedderModule, "_count", count_and_signal)
        assert train(settings, tmp_path / "cut", monkeypatch) == 128 + number
    assert signal.getsignal(number) == handler
    printed = capfd.readouterr().err
    assert "the same command goes on" in printed
    assert ("stops after this step" in printed) == (number == signal.SIGINT)
    run = only_run(tmp_path / "cut")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == at
    assert not (run / "result.json").exists()
    assert train(settings, tmp_path / "cut", monkeypatch) == 0
    assert comparable(run) == comparable(only_run(tmp_path / "whole"))
    assert weights(run) == weights(only_run(tmp_path / "whole"))
    assert metrics(run) == metrics(only_run(tmp_path / "whole"))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_texts(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(settings, tmp_path / "runs", monkeypatch, "optimizer.lr=1e38", "trainer.clip=null") == 1
    run = only_run(tmp_path / "runs")
    printed = capsys.readouterr().err
    assert "is not finite" in printed
    assert f"the texts of the step are in {run / 'bad_batch.json'}" in printed
    assert not (run / "result.json").exists()
    pools = json.loads((run / "bad_batch.json").read_text())
    assert [len(pool) for pool in pools] == [8, 8]


@pytest.mark.slow
def test_a_checkpoint_with_nan_is_refused(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from embedllm.callbacks import Checkpoints

    with monkeypatch.context() as patch:
        patch.setattr("embedllm.job.shutil.rmtree", lambda *_, **__: None)
        train(settings, tmp_path / "runs", monkeypatch)
    run = only_run(tmp_path / "runs")
    (run / "result.json").unlink()
    path = run / "checkpoints" / Checkpoints(run, None).path.name
    state = torch.load(path, weights_only=True)
    name = next(iter(state["state_dict"]))
    state["state_dict"][name].fill_(float("nan"))
    torch.save(state, path)
    assert train(settings, tmp_path / "runs", monkeypatch) == 2
    assert f"NaN or infinity in 'state_dict.{name}'" in capsys.readouterr().err


@pytest.mark.slow
def test_labels_supervise(settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(s for s in settings if s.startswith("eval.tasks")).removeprefix("eval.tasks=[").removesuffix("]")
    more = [f"data.path={path}", "data.anchor=text", "data.label=label", "data.augment=null"]
    assert train(settings, tmp_path / "runs", monkeypatch, *more) == 0


@pytest.mark.slow
def test_a_run_goes_on_from_another_ones_adapter(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings, tmp_path / "first", monkeypatch)
    first = only_run(tmp_path / "first")
    assert train(settings, tmp_path / "second", monkeypatch, f"adapter.path={first}", "trainer.max_steps=2") == 2
    settings = [s for s in settings if not s.startswith(("trainer.max_steps", "trainer.warmup"))]
    more = [f"adapter.path={first}", "trainer.max_steps=2", "trainer.warmup=0"]
    assert train(settings, tmp_path / "second", monkeypatch, *more) == 0
    second = json.loads((only_run(tmp_path / "second") / "result.json").read_text())
    after = json.loads((first / "result.json").read_text())["tasks"]["labels"]["main_score"]
    assert second["tasks"]["labels"]["before"] == pytest.approx(after, abs=1e-9)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.batch_size=1"], "trainer.batch_size: 1 is not allowed; the lowest value is 2"),
        (["trainer.batch_size=5000"], "trainer.batch_size: 5000 pairs make a pool"),
        (["trainer.warmup=8"], "trainer.warmup: 8 steps, but trainer.max_steps is 8"),
        (["trainer.clip=0"], "trainer.clip: 0.0 is not a positive number; null clips nothing"),
        (["trainer.schedule=step"], "trainer.schedule: 'step' is not one of constant, linear, cosine"),
        (["trainer.precision=fp8"], "trainer.precision: 'fp8' is not one of auto, float32, bfloat16"),
        (["trainer.micro_batch_tokens=none"], "trainer.micro_batch_tokens: 'none' is not auto"),
        (["trainer.compile=true"], "trainer.compile: true with adapter.dropout=0.2, but draws"),
        (["trainer.compile=true", "trainer.gradient_checkpointing=true"], "trainer.compile: true with trainer.grad"),
        (["loss.temperature=0"], "loss.temperature: 0"),
        (["loss.temperature=abc"], "loss.temperature: 'abc' is not of type float"),
        (["loss.temprature=1"], "loss.temprature: no such setting; did you mean 'loss.temperature'?"),
        (["optimizer.lr=0"], "optimizer.lr: 0 trains nothing; use a number above 0"),
        (["optimizer.lr=abc"], "optimizer: torch.optim.AdamW refuses optimizer.lr='abc'"),
        (["adapter=none"], "adapter: nothing can be trained with adapter=none"),
        (["adapter=qlora"], "adapter.kind: "),
        (["adapter.r=0"], "adapter.r: 0"),
        (["adapter.layers=9"], "adapter.layers: 9"),
        (["adapter.target_modules=[k_prj]"], "adapter.target_modules: "),
        (["adapter.path=./nowhere"], "adapter.path: "),
        (["data.path=nope.csv"], "data.path: no file at 'nope.csv'"),
        (["data=paper_csv"], "data.path: "),
        (["data.augment=null"], "data.positive: no column 'positive'"),
        (["data.anchor=words"], "data.anchor: no column 'words'"),
        (["data.label=topic"], "data.label: no column 'topic'"),
        (["data/augment=none"], "data/augment: there is no 'none'"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_is_scored(
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    sentence: str,
) -> None:
    names = {override.split("=")[0] for override in overrides}
    kept = [setting for setting in settings if setting.split("=")[0] not in names]
    assert train(kept, tmp_path / "runs", monkeypatch, *overrides) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith(sentence), printed.err
    assert "Traceback" not in printed.err
    assert "score before" not in printed.out


def test_a_precision_that_the_device_is_slow_in_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("backbone", "training"):
        monkeypatch.setattr(f"embedllm.{module}.trains_fast_in_bfloat16", lambda: False)
    assert autocast_dtype("auto") is None
    assert not caplog.records
    assert autocast_dtype("bfloat16") == torch.bfloat16
    assert caplog.messages == ["trainer.precision: bfloat16 is slower than float32 on this machine"]


@pytest.mark.parametrize(("slowest", "wanted"), [(0, torch.bfloat16), (1, None)])
def test_processes_on_unlike_machines_train_in_one_precision(
    slowest: int, wanted: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedllm.training.trains_fast_in_bfloat16", lambda: True)
    others = SimpleNamespace(highest=lambda slow: max(slow, slowest))
    assert autocast_dtype("auto", cast(Processes, others)) == wanted


@pytest.mark.slow
def test_five_kills_change_no_bit(settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "train.py", *settings]
    begin = time.monotonic()
    subprocess.run([*command, f"runs_dir={tmp_path / 'whole'}"], cwd=ROOT, check=True, capture_output=True)
    length = time.monotonic() - begin
    rng = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen([*command, f"runs_dir={tmp_path / 'cut'}"], cwd=ROOT, stdout=-3, stderr=-3)
        time.sleep(length * (0.3 + 0.6 * rng.random()))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, f"runs_dir={tmp_path / 'cut'}"], cwd=ROOT, check=True, capture_output=True)
    cut, uncut = only_run(tmp_path / "cut"), only_run(tmp_path / "whole")
    assert weights(cut) == weights(uncut)
    assert comparable(cut) == comparable(uncut)
    assert metrics(cut) == metrics(uncut)


@pytest.mark.slow
def test_positives_that_nothing_tells_from_their_anchors_are_refused(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dropout = ["data/augment=dropout", "adapter.dropout=0"]
    assert train(settings, tmp_path / "runs", monkeypatch, *dropout) == 2
    assert "data.augment: positives are equal to their anchors, and no dropout tells" in capsys.readouterr().err
    assert train(settings, tmp_path / "runs", monkeypatch, "data/augment=dropout") == 0


@pytest.mark.slow
def test_micro_batches_are_no_part_of_the_result(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout is on; sums of floats differ in their last digits, which Adam makes larger where a gradient is near 0."""
    for tokens in (40, 10_000):
        exact = f"trainer.micro_batch_tokens={tokens}", "trainer.precision=float32"
        assert train(settings, tmp_path / str(tokens), monkeypatch, *exact) == 0
    one, other = (
        load_file(only_run(tmp_path / str(t)) / "model" / "adapter" / "adapter_model.safetensors") for t in (40, 10_000)
    )
    assert all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)


@pytest.mark.slow
def test_a_learned_temperature_is_trained_logged_and_resumed(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedllm.module import EmbedderModule

    learned = "loss.learn_temperature=true"
    assert train(settings, tmp_path / "whole", monkeypatch, learned) == 0
    count = EmbedderModule._count

    def count_and_signal(self: EmbedderModule, *arguments: Any) -> None:
        count(self, *arguments)
        if self.totals.steps == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(EmbedderModule, "_count", count_and_signal)
        assert train(settings, tmp_path / "cut", monkeypatch, learned) == 128 + signal.SIGTERM
    assert train(settings, tmp_path / "cut", monkeypatch, learned) == 0
    whole, cut = (only_run(tmp_path / runs) for runs in ("whole", "cut"))
    assert metrics(cut) == metrics(whole)
    temperatures = [float(row[2]) for row in metrics(whole) if row[1] == "train/temperature"]
    assert len(set(temperatures)) == STEPS


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_before_the_weights_load(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(settings, tmp_path / "runs", monkeypatch) == 0
    run = only_run(tmp_path / "runs")
    (run / "result.json").unlink()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 half a file")
    with monkeypatch.context() as patch:
        patch.setattr("embedllm.job.build_embedder", lambda *_: pytest.fail("the weights were loaded"))
        assert train(settings, tmp_path / "runs", monkeypatch) == 2
    assert "is damaged, or no checkpoint of embedllm; remove it to start the training anew" in capsys.readouterr().err
