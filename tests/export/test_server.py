"""An export behind infinity, an embedding server that others made, asked by OpenAI's own client."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedllm import Embedder
from embedllm.adapter import AdapterSpec
from embedllm.export import export
from embedllm.export.reference import SAMPLES
from embedllm.pooling import LastTokenPooling

ROOT = Path(__file__).parents[2]
INFINITY = Path(os.environ.get("EMBEDLLM_INFINITY", ROOT / ".venv-server" / "bin" / "infinity_emb"))
START_S = 300
TEXTS = [sample.whole for sample in SAMPLES if sample.text.strip()]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INFINITY.is_file(), reason=f"{INFINITY} is not there; `make server` installs it"),
]


@pytest.fixture(scope="module")
def embedder(build: Callable[..., Embedder]) -> Embedder:
    """A small Llama with a trained adapter, the cluster prompt and the last token."""
    import torch

    embedder = build("llama", head=LastTokenPooling, adapter=AdapterSpec("lora", r=4, alpha=16))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, weight in embedder.backbone.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.3)
    return embedder


@pytest.fixture(scope="module")
def client(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """OpenAI's client of a server on loopback that has the export as the model ``mine``."""
    openai = pytest.importorskip("openai")
    folder = tmp_path_factory.mktemp("served")
    embedder.save(folder / "saved")
    export(folder / "saved", folder / "model")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(INFINITY), "v2", "--model-id", str(folder / "model"), "--served-model-name", "mine"]
    command += ["--url-prefix", "/v1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--engine", "torch", "--device", "cpu", "--dtype", "float32"]
    command += ["--no-bettertransformer", "--no-model-warmup"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", server, folder / "log")
            yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()[-2000:]}")


def vectors(answer: Any) -> np.ndarray:
    assert [row.index for row in answer.data] == list(range(len(answer.data)))
    return np.array([row.embedding for row in answer.data])


@pytest.mark.parametrize("settings", [{}, {"encoding_format": "float"}], ids=["base64, the client's own", "numbers"])
def test_the_client_gets_the_vectors_of_the_embedder(client: Any, embedder: Embedder, settings: dict[str, str]) -> None:
    found = vectors(client.embeddings.create(model="mine", input=TEXTS, **settings))
    np.testing.assert_allclose(found, embedder.encode(TEXTS), atol=1e-5)


def test_a_text_alone_has_the_vector_that_it_has_among_others(client: Any, embedder: Embedder) -> None:
    alone = np.concatenate([vectors(client.embeddings.create(model="mine", input=text)) for text in TEXTS[:6]])
    np.testing.assert_allclose(alone, embedder.encode(TEXTS[:6]), atol=1e-5)


def test_the_model_has_its_name(client: Any) -> None:
    assert [model.id for model in client.models.list().data] == ["mine"]
