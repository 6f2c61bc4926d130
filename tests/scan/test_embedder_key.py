"""Embedders that give other vectors have other keys, wherever they lie."""

import shutil
from pathlib import Path

import torch

from embedllm import Embedder
from embedllm.adapter import AdapterSpec
from embedllm.scan.embedder_key import embedder_key


def key(path: Path) -> str:
    return embedder_key(Embedder.load(path), path)


def test_each_part_of_an_embedder_counts_and_its_place_does_not(tiny_path: Path, tmp_path: Path) -> None:
    plain = Embedder.from_pretrained(str(tiny_path))
    plain.save(tmp_path / "plain")
    adapted = Embedder.from_pretrained(str(tiny_path), adapter=AdapterSpec("lora", r=4))
    adapted.save(tmp_path / "adapted" / "model")
    with torch.no_grad():
        next(weight for weight in adapted.parameters() if weight.requires_grad).mul_(2)
    adapted.save(tmp_path / "trained")
    plain.centre()
    plain.save(tmp_path / "centred")
    keys = [key(tmp_path / name) for name in ("plain", "adapted", "trained", "centred")]
    assert len(set(keys)) == 4
    shutil.copytree(tmp_path / "adapted", tmp_path / "moved")
    assert key(tmp_path / "moved") == keys[1]
    assert key(tiny_path) == keys[0]
