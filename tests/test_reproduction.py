"""``embedllm reproduce``: the command that it prints makes the run again, and what has changed is said."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedllm.cli import main
from embedllm.eval.specs import parse_specs
from embedllm.recipe import inputs
from embedllm.reproduction import _composed, _differences, _overrides, _written
from embedllm.runs import RunFolder
from embedllm.scoring import documents_of

Run = Callable[..., tuple[int, str]]

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a ``train.py``, as that of an installed package."""
    monkeypatch.chdir(tmp_path)


def only(tmp_path: Path, pattern: str = "*/*/result.json") -> Path:
    (path,) = (tmp_path / "runs").glob(pattern)
    return path.parent


def reproduced(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, str]:
    """Return the command and what is said beside it."""
    assert main(["reproduce", str(folder), *more]) == 0
    printed = capsys.readouterr()
    (command,) = printed.out.splitlines()
    return command, printed.err


def executed(command: str, cwd: Path) -> None:
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def change(folder: Path, **values: Any) -> None:
    """Change what a result says of where it comes from."""
    path = folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def made(run: Run, kept: Path, tmp_path: Path) -> Path:
    """The folder of a run that scores nothing, made once and copied."""
    if not (kept / "runs").exists():
        assert run("eval.tasks=[]", "eval.intrinsic=false")[0] == 0
        (tmp_path / "runs").rename(kept / "runs")
    shutil.copytree(kept / "runs", tmp_path / "runs")
    return only(tmp_path)


@pytest.mark.slow
def test_the_command_makes_the_run_again_from_anywhere(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "my pairs.csv"
    words = ("cat", "car", "sky", "sun")
    lines = [f"the {word} number {i},a {word} of {i} metres" for i in range(6) for word in words]
    pairs.write_text("\n".join(["anchor,positive", *lines]))
    training = ["trainer.max_steps=3", "trainer.batch_size=8", "trainer.warmup=1", "adapter.r=4", "seed=7"]
    template = 'prompt.template="It\'s \\"{text}\\", in $one word: "'
    code, printed = run("pooling=weighted_mean", template, f"data.path='{pairs}'", *training, "loss.temperature=0.07")
    assert code == 0, printed
    first = only(tmp_path)
    command, _ = reproduced(first, capsys, "--runs-dir", str(tmp_path / "again"))
    (tmp_path / "elsewhere").mkdir()
    executed(command, tmp_path / "elsewhere")
    second = tmp_path / "again" / "scratch" / first.name
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (first, second))
    assert {name: task["main_score"] for name, task in one["tasks"].items()} == {
        name: task["main_score"] for name, task in other["tasks"].items()
    }
    assert (one["score_before"], one["choices"]) == (other["score_before"], other["choices"])
    assert {**one["config"], "runs_dir": None} == {**other["config"], "runs_dir": None}
    rows = [(folder / "metrics.csv").read_text() for folder in (first, second)]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_scores")
def test_the_command_makes_a_scan_again(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan.poolings=[mean,eos]", "scan.every=1", "prompt=cluster")[0] == 0
    first = only(tmp_path, "*/*/scan.json")
    command, _ = reproduced(first, capsys)
    words = shlex.split(command)[shlex.split(command).index("embedllm.train") + 1 :]
    assert run(*words, f"runs_dir={tmp_path / 'again'}")[0] == 0
    cells = [
        json.loads((root / "scan.json").read_text())["cells"]
        for root in (first, tmp_path / "again" / "scratch" / first.name)
    ]
    assert cells[0] == cells[1]


@pytest.mark.slow
def test_nothing_has_changed_right_after_the_run(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, said = reproduced(made, capsys)
    assert command.startswith("OMP_NUM_THREADS=")
    assert "python -m embedllm.train pooling=mean prompt=none model=tiny" in command
    assert "runs_dir=reproduced" in command
    assert said.splitlines()[-1] == f"compare then: embedllm compare {made} reproduced/scratch/{made.name}"
    assert [line for line in said.splitlines()[:-1] if "commit" not in line] == []


@pytest.mark.slow
def test_in_a_checkout_the_command_is_that_of_the_readme(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert " python train.py pooling=mean " in reproduced(made, capsys)[0]


@pytest.mark.slow
def test_the_options_of_groups_are_typed_as_options(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("pooling=concat", "loss=gte", "suite=quick", "eval.tasks=[]", "logger=wandb", "eval.intrinsic=false")[0]
        == 0
    )
    command, _ = reproduced(only(tmp_path), capsys)
    words = shlex.split(command)
    assert {"pooling=concat", "loss=gte", "suite=quick", "eval.tasks=[]"} <= set(words)
    assert not [word for word in words if word.startswith(("logger", "pooling.", "loss."))]


def test_other_versions_commits_and_hardware_are_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = json.loads((made / "result.json").read_text())
    change(made, versions={**known["versions"], "torch": "1.0", "gone": "2"}, commit="0" * 40, hardware="1 x Abacus")
    said = reproduced(made, capsys)[1]
    assert "warning: torch: version 1.0 made the run, here is 2" in said
    assert "warning: gone: version 2 made the run, here is none" in said
    assert "warning: commit: 000000000000 made the run, here is " in said
    assert "warning: hardware: '1 x Abacus' made the run, here is " in said


@pytest.fixture
def trained(run: Run, made: Path, tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that says that it was trained on relative files."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("anchor,positive\na,b\n")
    result = json.loads((made / "result.json").read_text())
    result["config"]["trainer"]["max_steps"] = 2
    result["config"]["data"]["path"] = "pairs.csv"
    result["config"]["eval"]["tasks"] = ["animals.csv"]
    monkeypatch.chdir(tmp_path)
    (spec,) = parse_specs(["animals.csv"])
    tasks = {"animals": {"main_score": 1.0, "of": documents_of(spec, None)}}
    change(made, config=result["config"], inputs=inputs(result["config"]), directory=str(tmp_path), tasks=tasks)
    return made


@pytest.mark.slow
def test_files_are_found_from_another_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    command, said = reproduced(trained, capsys)
    assert f"data.path={tmp_path}/pairs.csv" in shlex.split(command)
    assert f"eval.tasks=[{tmp_path}/animals.csv]" in shlex.split(command)
    assert "SHA-256" not in said


def test_files_that_changed_are_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pairs.csv", "animals.csv"):
        with (tmp_path / name).open("a") as file:
            file.write("one,more\n")
    said = reproduced(trained, capsys)[1]
    assert "warning: data.path: what it names has changed since: SHA-256 " in said
    assert "warning: eval.tasks: 'animals.csv' has changed since: SHA-256 " in said


@pytest.mark.slow
def test_files_that_are_gone_are_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pairs.csv", "animals.csv"):
        (tmp_path / name).unlink()
    command, said = reproduced(trained, capsys)
    assert "data.path=pairs.csv" in command
    assert "warning: data.path: no file at 'pairs.csv'" in said
    assert "warning: eval.tasks: 'animals.csv': no file at" in said


@pytest.mark.slow
def test_settings_that_mean_another_run_here_are_said_to(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("embedllm.reproduction.commit", lambda: None)
    change(made, run_id="00000000", commit=None)
    assert (
        "made '00000000' then, so this version of embedllm takes them for something else" in reproduced(made, capsys)[1]
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not the folder of a finished run or scan"),
        ("{", "result.json is damaged"),
        ("[]", "result.json does not say the config of the run"),
        ('{"config": {}, "choices": {}}', "result.json does not say the run_id of the run"),
        ('{"config": null, "choices": {}, "run_id": "a"}', "result.json does not say the config of the run"),
        ('{"config": {}, "choices": [], "run_id": "a"}', "result.json does not say the choices of the run"),
        ('{"config": {}, "choices": {}, "run_id": "a"}', "result.json does not say the setting model of the run"),
    ],
)
def test_what_is_no_run_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, sentence: str
) -> None:
    if content is not None:
        RunFolder(tmp_path).result.write_text(content)
    assert main(["reproduce", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.slow
def test_a_run_of_a_version_that_lacked_a_setting_gets_its_default(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((made / "result.json").read_text())["config"]
    lacking = {name: value for name, value in config["eval"].items() if name not in ("mirror", "max_documents")}
    change(made, config={**{name: value for name, value in config.items() if name != "scan"}, "eval": lacking})
    command, said = reproduced(made, capsys)
    assert "eval.tasks=[]" in command
    assert "compare then" in said


@pytest.mark.slow
def test_what_is_to_be_compared_then_is_quoted_for_a_shell(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = reproduced(made, capsys, "--runs-dir", "my runs")
    (line,) = [line for line in said.splitlines() if line.startswith("compare then: ")]
    words = shlex.split(line.removeprefix("compare then: "))
    assert words == ["embedllm", "compare", str(made), f"my runs/scratch/{made.name}"]


def test_a_setting_that_this_version_does_not_have_is_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((made / "result.json").read_text())["config"]
    change(made, config={**config, "trainer": {**config["trainer"], "of_old": 3}})
    assert main(["reproduce", str(made)]) == 2
    assert "of_old" in capsys.readouterr().err


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    "value",
    [
        "{text}", 'a "quoted" {text}', "it's {text}", "two\nlines: {text}", "back\\slash {text}\\", 'end \\" {text}"',
        "${not.a.key} {text}", "a,b=c: [d] {text}", "  spaces  {text} ", "ünï 文 {text}", "null", "TRUE", "1e5",
        "12", "-3", "", "~", "#1 {text}", "$(rm) `x` {text}", "choice(1,2) {text}",
        "\\${not.a.key} {text}", "\\\\${not.a.key} {text}", ".5",
    ],
)  # fmt: skip
def test_any_text_comes_back_through_shell_and_hydra(value: str) -> None:
    (word,) = shlex.split(shlex.join([f"prompt.template={_written(value)}"]))
    made, _ = _composed([word], resolve=True)
    assert made["prompt"]["template"] == value


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    "words",
    [
        ["data.augment=null"],
        ["data.augment.augmenters=[{_target_:embedllm.data.augment.WordDeletion,p:0.3}]"],
        ["loss=matryoshka", "optimizer.lr=1e-5", "+optimizer.eps=1e-7", "~optimizer.weight_decay"],
        ["adapter.target_modules=[q_proj,v_proj]", "adapter.alpha=1e-3", "model.layers=3", "prompt.bos=true"],
        ["trainer.micro_batch_tokens=512", "trainer.clip=null", "eval.dev=[a.csv,'classification:b c.csv']"],
        ["experiment=demo"],
        ["suite=paper", "eval.max_documents=7"],
        ["model.name=./my-decoder", "pooling._target_=my_heads.FirstTokenPooling"],
    ],
    ids=str,
)
def test_any_settings_are_composed_again(words: list[str]) -> None:
    settings, choices = _composed(words, resolve=True)
    found = _overrides(settings, {group: option for group, option in choices.items() if isinstance(option, str)})
    again, _ = _composed(found, resolve=True)
    assert again == settings
    assert list(_differences(again, settings)) == []
