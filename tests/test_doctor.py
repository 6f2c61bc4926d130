"""``embedllm doctor``: a sound machine passes, and each thing that can be wrong is seen."""

import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import serving
from huggingface_hub import constants

from embedllm import Embedder
from embedllm.cli import main
from embedllm.doctor import hardware, installation, services
from embedllm.doctor.self_test import SelfTest
from embedllm.doctor.verdict import FAIL, OK, WARN, Verdict, looked_at
from embedllm.engine import ContrastiveStep

LINE = re.compile(r"^(ok  |warn|FAIL)  ([a-z ]{13})  (\S.*)$")


def test_a_sound_machine_passes_a_line_a_verdict(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(services, "get_session", lambda: pytest.fail("the Hub was asked while HF_HUB_OFFLINE is set"))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    verdicts = {match[2].strip(): match[1].strip() for line in lines if (match := LINE.match(line))}
    assert len(verdicts) == len(lines) == 15
    assert FAIL not in verdicts.values()
    assert {verdicts[name] for name in ("packages", "hub", "encoding", "batching", "training")} == {OK}
    assert not list(tmp_path.iterdir())


def test_a_failure_is_the_exit_code(
    tiny_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "hub", lambda: Verdict("hub", FAIL, "it burns"))
    assert main(["doctor"]) == 1
    assert "FAIL  hub            it burns" in capsys.readouterr().out


def test_a_look_that_breaks_is_a_failure() -> None:
    def broken() -> Verdict:
        raise RuntimeError("no such kernel\nmore")

    sound = Verdict("wandb", OK, "fine")
    assert list(looked_at([("device", broken), ("wandb", lambda: sound)])) == [
        Verdict("device", FAIL, "RuntimeError: no such kernel"),
        sound,
    ]


# --- the self-test sees what it is for ---------------------------------------------------------------------------


@pytest.fixture
def self_test(tiny_path: Path) -> SelfTest:
    return SelfTest()


def test_vectors_that_change_are_seen(self_test: SelfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Embedder.encode
    monkeypatch.setattr(Embedder, "encode", lambda *args, **settings: encode(*args, **settings) * (1 + 1e-6))
    assert self_test.repeats().state == FAIL
    assert self_test.does_not_mix().state == OK


def test_texts_that_see_each_other_are_seen(self_test: SelfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Embedder.encode

    def mixing(embedder: Embedder, texts: Any, **settings: Any) -> Any:
        vectors = encode(embedder, texts, **settings)
        return vectors + 0.01 * vectors.mean(axis=0) * (len(texts) == 1)

    monkeypatch.setattr(Embedder, "encode", mixing)
    assert self_test.repeats().state == OK
    assert self_test.does_not_mix().state == FAIL


def test_a_step_in_the_wrong_direction_is_seen(self_test: SelfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ContrastiveStep.__call__
    monkeypatch.setattr(ContrastiveStep, "__call__", lambda *args, key: step(*args, key=key, scale=-1.0))
    assert self_test.learns().state == FAIL


# --- packages and folders ----------------------------------------------------------------------------------------


def test_packages_are_held_against_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installation.packages().state == OK
    wanted = ["torch>=99", "no-such-package", "numpy>=2", "tomli; python_version < '3'", "more; extra == 'dev'"]
    monkeypatch.setattr(installation, "requires", lambda _name: wanted)
    verdict = installation.packages()
    assert verdict.state == FAIL
    assert re.fullmatch(r"torch is \S+, not >=99; no-such-package is not installed; .*", verdict.found)


def test_what_is_optional_is_named_with_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    assert installation.extras() == Verdict("extras", OK, "tensorboard; not installed: bitsandbytes (adapter=qlora)")
    monkeypatch.setattr(installation, "find_spec", lambda _name: None)
    assert installation.default_model().state == WARN


def test_folders_need_room_and_to_be_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "not" / "there"
    assert installation.folder("cache", path, "EMBEDLLM_CACHE").state in (OK, WARN)
    assert not list(tmp_path.iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=int(1e9)))
    verdict = installation.folder("cache", path, "EMBEDLLM_CACHE")
    assert verdict == Verdict("cache", WARN, f"{path}, 1 GB free; set EMBEDLLM_CACHE elsewhere")
    (tmp_path / "not").write_text("a file")
    verdict = installation.folder("cache", path, "EMBEDLLM_CACHE")
    assert verdict == Verdict("cache", FAIL, f"{path} cannot be written; set EMBEDLLM_CACHE to a folder that can")


def test_a_gpu_that_torch_cannot_use_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert hardware.device().state == OK
    monkeypatch.setattr(hardware, "NVIDIA", tmp_path)
    assert hardware.device().state == WARN


# --- services ----------------------------------------------------------------------------------------------------


def test_the_hub_is_asked_when_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(services, "get_token", lambda: "hf_x")
        assert services.hub() == Verdict("hub", OK, f"{hub.url} answers, with a token")
        monkeypatch.setattr(services, "get_token", lambda: None)
        hub.status = 404  # as a mirror may
        assert "without a token, so no gated model" in services.hub().found
        hub.status = 503
        sentence = f"{hub.url} answers with HTTP 503; local models and data do without"
        assert services.hub() == Verdict("hub", WARN, sentence)
    verdict = services.hub()
    assert verdict.state == WARN
    assert verdict.found.startswith(f"{hub.url} does not answer (")


def test_a_hub_that_never_answers_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert services.TIMEOUT_S == 3.0
    monkeypatch.setattr(services, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert services.hub().state == WARN
        assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("environment", "netrc", "sentence"),
    [
        ({}, "", "no account is set up, so runs with logger=wandb are recorded offline"),
        ({"WANDB_API_KEY": "x"}, "", "an account is set up"),
        ({}, "machine api.wandb.ai login user password x", "an account is set up"),
        ({"WANDB_BASE_URL": "https://w.org"}, "machine api.wandb.ai login user password x", "no account is set up"),
        ({"WANDB_IDENTITY_TOKEN_FILE": "x"}, "", "an account is set up"),
        ({"WANDB_MODE": "offline", "WANDB_API_KEY": "x"}, "", "WANDB_MODE=offline, so nothing is sent"),
        ({"WANDB_MODE": "dryrun", "WANDB_API_KEY": "x"}, "", "WANDB_MODE=dryrun, so nothing is sent"),
    ],
)
def test_where_runs_of_wandb_would_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], netrc: str, sentence: str
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(netrc)
    for name, value in {"NETRC": str(tmp_path / "netrc"), **environment}.items():
        monkeypatch.setenv(name, value)
    assert sentence in services.wandb().found
