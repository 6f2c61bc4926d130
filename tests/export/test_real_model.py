"""The export of a real decoder, and its score through sentence-transformers."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.data.embedded_files import embedded_data_path
from embedllm.eval.score import score_tasks
from embedllm.eval.specs import parse_specs
from embedllm.export import export
from embedllm.pooling import LastTokenPooling

CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'

pytestmark = pytest.mark.slow


class Encoder:
    """A SentenceTransformer where the scoring wants an embedder."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(self, texts: list[str]) -> np.ndarray:
        return self.model.encode(list(texts), show_progress_bar=False)


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """100 labelled definitions of 5 classes."""
    with embedded_data_path("wordnet_definitions").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})[:5]
    chosen = [row for name in classes for row in [r for r in rows if r["label"] == name][:20]]
    with (tmp_path / "definitions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(chosen)
    return tmp_path / "definitions.csv"


def test_scores_through_sentence_transformers_are_ours(
    smollm2_path: Path, tmp_path: Path, sentences: Path, load: Callable[[Path], Any]
) -> None:
    spec = ModelSpec(str(smollm2_path), dtype="float32", max_length=128)
    adapter = AdapterSpec("lora", r=4)
    model = Embedder.from_pretrained(spec, template=CLUSTER, head=LastTokenPooling, adapter=adapter)
    torch.manual_seed(0)
    for parameter in model.backbone.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.01 * torch.randn_like(parameter))
    model.save(tmp_path / "saved")
    assert export(tmp_path / "saved", tmp_path / "out").ok
    specs = parse_specs([str(sentences)])
    ours = score_tasks(model, specs)["definitions"]["main_score"]
    theirs = score_tasks(Encoder(load(tmp_path / "out")), specs)["definitions"]["main_score"]
    assert abs(ours - theirs) <= 0.05
