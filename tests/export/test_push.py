"""``embedllm export --push``, against a stand-in of the Hub."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_stand_in import TOKEN, Hub, Model, serving
from huggingface_hub import constants

from embedllm.cli import main

NAME = "someone/my-model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on loopback, with a token that it knows; files go by HTTP, as a stand-in has no Xet storage."""
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def export(saved: Path, folder: Path, *more: str) -> int:
    return main(["export", str(saved), str(folder), *more])


def test_the_whole_folder_arrives_in_a_private_model(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(saved, tmp_path / "out", "--push", NAME) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"sent to {hub.url}/{NAME} (private)"
    model = hub.models[NAME]
    written = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*")}
    assert model.files == {name: path.read_bytes() for name, path in written.items() if path.is_file()}
    assert model.files["model.safetensors"] in hub.objects.values()
    assert model.private
    assert model.commits == ["Upload an embedllm export"]
    assert f'SentenceTransformer("{NAME}")' in model.files["README.md"].decode()


def test_a_folder_in_the_home_is_sent_too(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export(saved, Path("~/out"), "--push", NAME) == 0
    assert hub.models[NAME].files["README.md"] == (tmp_path / "out" / "README.md").read_bytes()


@pytest.mark.parametrize("there", [False, True])
def test_everybody_may_read_it_when_asked_to(hub: Hub, saved: Path, tmp_path: Path, there: bool) -> None:
    if there:
        hub.models[NAME] = Model(private=False)
    assert export(saved, tmp_path / "out", "--push", NAME, "--public") == 0
    assert not hub.models[NAME].private
    assert "model.safetensors" in hub.models[NAME].files


def test_nothing_is_sent_without_the_flag(hub: Hub, saved: Path, tmp_path: Path) -> None:
    assert export(saved, tmp_path / "out") == 0
    assert hub.calls == []


def test_a_refused_folder_stays_and_is_one_sentence(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses_commits = True
    folder = tmp_path / "my models"
    assert export(saved, folder, "--push", NAME) == 1
    (sentence,) = capsys.readouterr().err.splitlines()[-1:]
    assert sentence.startswith(f"--push: {str(folder)!r} is written and verified, but was not sent to {NAME!r} (")
    assert sentence.endswith(f"; send it with: hf upload {NAME} '{folder}' --private")
    assert (folder / "model.safetensors").is_file()


def refused(saved: Path, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """Return the only sentence, of an export that wrote nothing."""
    assert export(saved, folder, *more) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert not folder.exists()
    return sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my-model", "--push: 'my-model' lacks its owner, a user or an organisation; give owner/name"),
        ("a/b/c", "--push: 'a/b/c' is no name of a model on the Hub; give owner/name"),
        ("me/my model", "--push: 'me/my model' is no name of a model on the Hub; give owner/name"),
    ],
)
def test_names_are_checked_first(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    assert refused(saved, tmp_path / "out", capsys, "--push", name) == sentence
    assert hub.calls == []


def test_the_requests_are_not_told(hub: Hub, saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    hub.models[NAME] = Model(private=False)
    assert export(saved, tmp_path / "out", "--push", NAME) == 2
    assert len(hub.calls) > 1
    assert not caplog.messages


def test_a_public_model_is_no_surprise(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.models[NAME] = Model(private=False)
    sentence = refused(saved, tmp_path / "out", capsys, "--push", NAME)
    assert sentence == f"--push: {NAME!r} is public already; add --public to send the model all the same"


def test_what_is_lacking_is_said_before_the_export(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    assert refused(saved, folder, capsys, "--public").startswith("--public: nothing is sent without --push")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    sentence = refused(saved, folder, capsys, "--push", NAME)
    assert sentence.startswith(f"--push: {NAME!r} cannot be sent to {hub.url} (Invalid user token")
    monkeypatch.setattr("embedllm.export.hub.get_token", lambda: None)
    sentence = refused(saved, folder, capsys, "--push", NAME)
    assert "cannot be sent without a token of the Hugging Face Hub; log in with `hf auth login`, or set" in sentence
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot be sent while HF_HUB_OFFLINE is set" in refused(saved, folder, capsys, "--push", NAME)


def test_a_hub_that_is_away_is_one_sentence(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    sentence = refused(saved, tmp_path / "out", capsys, "--push", NAME)
    assert sentence.startswith(f"--push: {NAME!r} cannot be sent to http://127.0.0.1:9 (")
