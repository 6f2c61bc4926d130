"""A run that was trained, in as far as its weights were moved, with a model after a step of the training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from embedllm.adapter import AdapterSpec
from embedllm.embedder import Embedder
from embedllm.pooling import LastTokenPooling
from embedllm.prompt import SLOT
from embedllm.runs import RunFolder

TEMPLATE = 'This sentence : "{text}" means in one word:'


def moved(embedder: Embedder, by: float) -> Embedder:
    """Move all trainable weights."""
    generator = torch.Generator().manual_seed(1)
    for parameter in embedder.parameters():
        if parameter.requires_grad:
            parameter.data += by * torch.randn(parameter.shape, generator=generator)
    return embedder


@pytest.fixture
def make_run(tiny_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a finished run of the tiny model."""

    def make(name: str = "run", kind: str = "lora", template: str = TEMPLATE, **settings: object) -> Path:
        head = settings.pop("head", LastTokenPooling)
        embedder = Embedder.from_pretrained(
            settings.pop("spec", str(tiny_path)), template=template, head=head, adapter=AdapterSpec(kind, r=2)
        )
        run = RunFolder(tmp_path / name)
        moved(embedder, 0.1).save(run.snapshot(3))
        moved(embedder, 0.1).save(run.model)
        run.write_result({"tasks": {}})
        run.config.write_text(json.dumps({}))
        return run.path

    return make


@pytest.fixture
def decoder(make_decoder: Callable[[str], Path]) -> Callable[..., Embedder]:
    """Load a small decoder of some family in float32."""
    from embedllm.embedder import ModelSpec

    def load(
        architecture: str,
        head: object = LastTokenPooling,
        template: str = SLOT,
        adapter: AdapterSpec | None = None,
        **spec: object,
    ) -> Embedder:
        found = ModelSpec(str(make_decoder(architecture)), **{"dtype": "float32", "max_length": 96, **spec})
        return Embedder.from_pretrained(found, template=template, head=head, adapter=adapter)

    return load
