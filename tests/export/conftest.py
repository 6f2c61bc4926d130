"""What the tests of the export share: small models, saved and exported."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embedllm import Embedder, ModelSpec
from embedllm.export import verification
from embedllm.pooling import MeanPooling

CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'

Build = Callable[..., Embedder]


@pytest.fixture(scope="session")
def build(make_decoder: Callable[[str], Path]) -> Build:
    """Build an embedder on a small decoder: ``build(architecture, template, head, adapter=..., **settings)``."""

    def make(
        architecture: str, template: str = CLUSTER, head: Any = MeanPooling, adapter: Any = None, **settings: Any
    ) -> Embedder:
        spec = ModelSpec(str(make_decoder(architecture)), **{"dtype": "float32", "max_length": 64, **settings})
        return Embedder.from_pretrained(spec, template=template, head=head, adapter=adapter)

    return make


@pytest.fixture(scope="session")
def saved(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved embedder: a small Llama, the cluster prompt, mean pooling."""
    folder = tmp_path_factory.mktemp("saved")
    build("llama").save(folder)
    return folder


@pytest.fixture(scope="session")
def exported(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of ``saved``."""
    from embedllm.export import export

    folder = tmp_path_factory.mktemp("exported") / "model"
    export(saved, folder)
    return folder


@pytest.fixture
def load() -> Callable[[Path], Any]:
    """Load a folder as a user does."""
    return partial(verification._load)
