"""``embedllm export`` and ``embedllm verify``."""

import argparse
import shutil
from pathlib import Path

import pytest

from embedllm.commands.export import add_command
from embedllm.errors import InputError


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(required=True))
    options = parser.parse_args([str(argument) for argument in arguments])
    return int(options.run(options))


def test_export_writes_a_line_for_each_check(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", saved, tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("ok ") for line in lines)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_verify_tells_good_from_bad(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", exported) == 0
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    capsys.readouterr()
    assert run("verify", copy) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["ok  ", "FAIL"]


def test_notes_follow_the_checks(tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", tiny_path, tmp_path / "out", "--dtype", "float16") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("note  An empty text has no token")


def test_what_does_not_verify_is_one_sentence(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("embedllm.export.writer.write_modules", lambda *_: None)
    assert run("export", saved, tmp_path / "out") == 1
    printed = capsys.readouterr().err
    assert printed.startswith("the exported folder is not the model, so it was removed (FAIL  ")
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_with_the_input_is_left_to_the_program(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--adapter-only"):
        run("export", saved, tmp_path / "out", "--adapter-only")
    with pytest.raises(SystemExit):
        run("export", saved, tmp_path / "out", "--dtype", "int8")
