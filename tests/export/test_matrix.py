"""Every head that can be exported, with every kind of prompt, on three families of decoders."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from embedllm.config import config_dir
from embedllm.export import export, reference
from embedllm.export.reference import Sample
from embedllm.targets import locate

HEADS = {
    path.stem: locate(yaml.safe_load(path.read_text())["_target_"])
    for path in sorted((config_dir() / "pooling").glob("*.yaml"))
}
EXPORTABLE = {name: head for name, head in HEADS.items() if head.sentence_transformers_mode is not None}
PROMPTS = ("none", "cluster", "cluster_the_text")


@pytest.fixture(autouse=True)
def shorter_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizing 20,000 words again and again takes most of the time, and 1,000 are cut as well."""
    samples = tuple(Sample(s.text, min(s.times, 1_000)) for s in reference.SAMPLES)
    monkeypatch.setattr(reference, "SAMPLES", samples)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("head", EXPORTABLE)
def test_sentence_transformers_gives_our_vectors(
    build: Any, tmp_path: Path, architecture: str, prompt: str, head: str
) -> None:
    template = yaml.safe_load((config_dir() / "prompt" / f"{prompt}.yaml").read_text())["template"]
    build(architecture, template, EXPORTABLE[head]).save(tmp_path / "saved")
    report = export(tmp_path / "saved", tmp_path / "exported")
    assert report.ok, report.failures


def test_the_matrix_is_not_empty() -> None:
    assert set(EXPORTABLE) >= {"mean", "last", "eos", "weighted_mean", "max", "concat"}
    assert "attention" not in EXPORTABLE
