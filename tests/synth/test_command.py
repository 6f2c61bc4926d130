"""``embedllm synth`` from the shell: what it makes, what it refuses, and that kills cost nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from embedllm.cli import main
from embedllm.config import config_dir
from embedllm.data.embedded_files import embedded_data_path
from embedllm.synth_settings import build, read_settings

GENERATORS = sorted(path.stem for path in (config_dir() / "synth" / "generator").glob("*.yaml"))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    lines = embedded_data_path("wikipedia_sentences").read_text().splitlines()[1:41]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(line.partition(",")[2] for line in lines) + "\n")
    return path


def synth(*words: object) -> int:
    return main(["synth", *map(str, words)])


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_can_be_built_from_its_settings(name: str) -> None:
    generator = build(read_settings([f"generator={name}"])["generator"])
    assert generator.name == name


@pytest.mark.slow
def test_pairs_train_a_model_as_they_are(
    texts: Path, tmp_path: Path, run: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.parquet"
    assert synth(texts, "generator=word_noise", "-o", pairs, "seed=1") == 0
    assert "pairs.parquet: 40 pairs of 40 drafts" in capsys.readouterr().out
    code, printed = run(f"data.path={pairs}", "trainer.max_steps=1", "trainer.warmup=0", "trainer.batch_size=8")
    assert code == 0, printed
    assert "40 pairs of 40 rows (dropped: none; 0 of equal texts)" in printed


def test_a_column_of_a_table_is_named(tmp_path: Path) -> None:
    assert (
        synth(
            "embedded:wordnet_definitions",
            "-o",
            tmp_path / "a.parquet",
            "generator=dropout",
            "column=text",
            "rows=5",
            "gates=none",
        )
        == 0
    )
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 5


def test_contaminated_texts_are_dropped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.parquet"
    assert synth("embedded:wordnet_definitions", "-o", output, "generator=dropout", "column=text", "rows=50") == 2
    printed = capsys.readouterr()
    assert "contamination     50" in printed.out
    assert "none of the pairs was kept" in printed.err


def test_an_output_that_was_held_against_other_texts_is_refused(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "task.csv"
    words = (texts, "-o", tmp_path / "a.parquet", "generator=word_noise", f"gates.contamination.tasks=[{tasks}]")
    tasks.write_text("text,label\none text,a\nanother,b\n")
    assert synth(*words) == 0
    assert synth(*words) == 0
    tasks.write_text("text,label\none text,a\na third,b\n")
    assert synth(*words) == 2
    assert f"was made by files.{tasks}=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generator=wordnoise"], "did you mean 'word_noise'"),
        (["sede=1"], "sede: no such setting; did you mean 'seed'?"),
        (["generator.temprature=1"], "did you mean 'generator.temperature'"),
        (["gates.copi=null"], "did you mean 'gates.copy'"),
        (["block=0"], "block: 0 is not allowed; the lowest value is 1"),
        (["seed=x"], "seed: 'x' is not a whole number"),
        (["generator.temperature=hot"], "generator.temperature: 'hot' is not of type float"),
        (["column=body"], "column: no column 'body' in"),
    ],
)
def test_settings_that_are_wrong_are_named(
    texts: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "embedded:wikipedia_sentences" if words[0].startswith("column") else texts
    assert synth(source, "-o", tmp_path / "a.parquet", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path != texts] == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.csv", "does not end in .parquet"),
        ("nowhere/a.parquet", "cannot be written to"),
        (None, "-o: name the file to write"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(
    texts: Path, tmp_path: Path, output: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synth(texts, *([] if output is None else ["-o", tmp_path / output]), "generator=dropout") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x7fELF\x00\x00\x01", "FILE: .* holds a zero byte"), (b"caf\xe9\n", "is not UTF-8"), (b"\n\n", "has no text")],
)
def test_files_that_are_no_text_are_refused(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    (tmp_path / "texts.txt").write_bytes(content)
    assert synth(tmp_path / "texts.txt", "-o", tmp_path / "a.parquet", "generator=dropout") == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"), [(["--sead", "1"], "--sead: no such option"), (["surplus"], "too many arguments: 'surplus'")]
)
def test_words_that_are_no_settings_are_still_unknown(
    texts: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synth(texts, "-o", tmp_path / "a.parquet", "--inspect", *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--mine"]], ids=["make", "mine"])
def test_tasks_go_with_inspect_only(
    texts: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-o", tmp_path / "a.parquet", *more, "--tasks", "my.csv", "generator=word_noise"]
    assert synth(texts, *words) == 2
    assert "--tasks: goes with --inspect only; gates.contamination.tasks=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "more", "says"),
    [("run_synth", [], "goes on from here"), ("run_mining", ["--mine"], "starts again")],
    ids=["make", "mine"],
)
def test_an_interrupt_says_what_the_same_command_does(
    texts: Path,
    tmp_path: Path,
    what: str,
    more: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"embedllm.synth_job.{what}", interrupted)
    assert synth(texts, "-o", tmp_path / "a.parquet", *more) == 130
    assert f"interrupted; the same command {says}" in capsys.readouterr().err


def test_mining_does_not_write_over_a_file(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.parquet"
    assert synth(texts, "generator=word_noise", "-o", pairs, "gates=none") == 0
    assert synth(pairs, "--mine", "-o", pairs) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_one_line_of_100_megabytes_costs_its_row_only(texts: Path, tmp_path: Path) -> None:
    with texts.open("a") as file:
        file.write("word " * 20_000_000 + "\nThe last line is whole again.\n")
    assert synth(texts, "-o", tmp_path / "a.parquet", "generator=word_noise") == 0
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table["source_row"].to_pylist() == [*range(40), 41]


def start(texts: Path, output: Path, words: list[str], **options: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "embedllm.cli", "synth", str(texts), "-o", str(output), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def parts(output: Path) -> int:
    return len(list(output.with_name(f"{output.name}.parts").glob("[0-9]*.parquet")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["generator=word_noise", "block=2"],
        ["generator=llm", "generator.dtype=float32", "generator.max_new_tokens=24", "gates.similarity=null", "block=8"],
    ],
    ids=["word_noise", "llm"],
)
def test_a_run_killed_three_times_equals_one_that_was_not(words: list[str], tiny_path: Path, tmp_path: Path) -> None:
    lines = embedded_data_path("wikipedia_sentences").read_text().splitlines()[1:301]
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(line.partition(",")[2] for line in lines) + "\n")
    words = [*words, *([f"generator.model={tiny_path}"] if "generator=llm" in words else [])]
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    assert start(texts, whole, words).wait() == 0
    rng = random.Random(str(words))
    for kill in range(1, 4):
        process = start(texts, killed, words)
        while parts(killed) < kill * 3 + rng.randrange(4) and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert start(texts, killed, words).wait() == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert not killed.with_name("killed.parquet.parts").exists()


@pytest.mark.slow
def test_an_interrupt_ends_cleanly(texts: Path, tmp_path: Path) -> None:
    texts.write_text(texts.read_text() * 100)
    process = start(texts, tmp_path / "a.parquet", ["generator=word_noise", "block=2"], env={**os.environ})
    while parts(tmp_path / "a.parquet") < 2 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate()
    assert process.returncode == 130
    assert printed.decode().strip().splitlines()[-1].endswith("interrupted; the same command goes on from here")
    assert b"Traceback" not in printed
