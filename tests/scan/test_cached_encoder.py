"""The cached encoder: the vectors of the embedder, computed once for all variants."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.blueprint import Blueprint
from embedllm.centring import reference_texts
from embedllm.embedder import MANIFEST
from embedllm.pooling import ConcatPooling, EosPooling, LastTokenPooling, MeanPooling
from embedllm.scan.cached_encoder import CachedEncoder
from embedllm.scan.passes import Scan
from embedllm.scan.variants import Variant, draw_up_variants
from embedllm.scan.vector_cache import VectorCache

CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'
TEXTS = ["a man is driving a car", "", "x", "word " * 300, "a man is driving a car", "It ends here."]
VARIANTS = [
    Variant(partial(MeanPooling, normalize=False)),
    Variant(EosPooling),
    Variant(ConcatPooling, layers=1),
    Variant(LastTokenPooling, final_norm=False),
]


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "vectors")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Blueprint]:
    """The blueprints whose weights were loaded."""
    seen: list[Blueprint] = []
    load = Embedder.from_blueprint

    def counted(parts: Blueprint, **options: Any) -> Embedder:
        seen.append(parts)
        return load(parts, **options)

    monkeypatch.setattr(Embedder, "from_blueprint", counted)
    return seen


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec(str(folder), dtype="float32", max_length=64)


def drawn(folder: Path, variants: Sequence[Variant] = VARIANTS) -> list[Blueprint]:
    return draw_up_variants(spec_of(folder), variants, template=CLUSTER)


def test_every_variant_equals_its_embedder_after_one_load(
    tiny_path: Path, cache: VectorCache, loads: list[Blueprint]
) -> None:
    plans = drawn(tiny_path)
    found = [CachedEncoder(plan, cache, plans).encode(TEXTS) for plan in plans]
    assert len(loads) == 1
    for vectors, plan in zip(found, plans, strict=True):
        reference = Embedder.from_blueprint(plan).encode(TEXTS)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, reference, atol=1e-5, rtol=1e-5)


def test_a_second_run_gives_the_same_bits_without_weights(
    tiny_path: Path, cache: VectorCache, loads: list[Blueprint]
) -> None:
    plans = drawn(tiny_path)
    first = CachedEncoder(plans[1], cache, plans).encode(TEXTS)
    again = CachedEncoder(drawn(tiny_path)[1], cache).encode(TEXTS[::-1])
    assert np.array_equal(again, first[::-1])
    assert len(loads) == 1


def test_only_texts_that_are_not_known_are_computed(
    tiny_path: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = Scan.encode
    monkeypatch.setattr(Scan, "encode", lambda scan, texts: seen.extend(texts) or encode(scan, texts))
    encoder = CachedEncoder(drawn(tiny_path)[0], cache)
    encoder.encode(["a", "b", "a"])
    encoder.encode(["b", "a longer text", "c"])
    assert sorted(seen) == ["a", "a longer text", "b", "c"]


def test_chunks_keep_the_order(tiny_path: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = drawn(tiny_path)
    whole = CachedEncoder(plans[0], cache, plans).encode(TEXTS)
    monkeypatch.setattr("embedllm.scan.cached_encoder._TEXTS", 2)
    again = CachedEncoder(plans[0], VectorCache(cache.folder / "other"), plans).encode(TEXTS)
    np.testing.assert_allclose(again, whole, atol=1e-5)


def test_an_interrupt_keeps_the_chunks_before_it(
    tiny_path: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sequence[str]] = []
    encode = Scan.encode

    def interrupted(scan: Scan, texts: Sequence[str]) -> list[np.ndarray]:
        seen.append(texts)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return encode(scan, texts)

    monkeypatch.setattr(Scan, "encode", interrupted)
    texts = [f"text {number:04}" for number in range(300)]  # three chunks
    encoder = CachedEncoder(drawn(tiny_path)[0], cache)
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(texts)
    encoder.encode(texts)
    assert list(map(len, seen)) == [128, 128, 128, 44]
    assert seen[2] == seen[1]


def test_a_cache_that_is_too_small_changes_nothing(tiny_path: Path, tmp_path: Path) -> None:
    plans = drawn(tiny_path)
    found = CachedEncoder(plans[0], VectorCache(tmp_path, limit_gb=1e-9), plans).encode(TEXTS)
    np.testing.assert_allclose(found, Embedder.from_blueprint(plans[0]).encode(TEXTS), atol=1e-5, rtol=1e-5)


def test_no_more_layers_are_loaded_than_are_asked_for(
    tiny_path: Path, cache: VectorCache, loads: list[Blueprint]
) -> None:
    (plan,) = drawn(tiny_path, [Variant(MeanPooling, layers=1, final_norm=False)])
    CachedEncoder(plan, cache).encode(["x"])
    assert (loads[0].spec.layers, loads[0].spec.final_norm) == (1, False)


def test_weights_that_are_there_are_used(tiny_path: Path, cache: VectorCache, loads: list[Blueprint]) -> None:
    plans = drawn(tiny_path)
    embedder = Embedder.from_blueprint(plans[1])
    CachedEncoder(plans[1], cache, plans, embedder=embedder).encode(TEXTS)
    assert len(loads) == 1


def test_no_texts_and_no_bare_string(tiny_path: Path, cache: VectorCache, loads: list[Blueprint]) -> None:
    encoder = CachedEncoder(drawn(tiny_path)[2], cache)
    assert encoder.encode([]).shape == (0, 64)
    assert not loads
    with pytest.raises(TypeError, match="list of texts"):
        encoder.encode("one text")


def test_centred_vectors_are_normalised_differences_to_the_mean_of_the_reference(
    tiny_path: Path, cache: VectorCache, loads: list[Blueprint]
) -> None:
    plans = drawn(tiny_path)
    found = CachedEncoder(plans[1], cache, plans, centred=True).encode(TEXTS)
    embedder = Embedder.from_blueprint(plans[1])
    embedder.head.normalize = False
    moved = embedder.encode(TEXTS) - embedder.encode(reference_texts()).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(found, moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=1e-5)
    CachedEncoder(plans[0], cache, centred=True).encode(TEXTS)
    assert len(loads) == 2  # one is that of the reference


def test_a_centred_vector_does_not_depend_on_the_texts_beside_it(tiny_path: Path, cache: VectorCache) -> None:
    (plan,) = drawn(tiny_path, [Variant(MeanPooling)])
    encoder = CachedEncoder(plan, cache, centred=True)
    assert np.array_equal(encoder.encode(TEXTS)[:1], encoder.encode(TEXTS[:1]))


def test_saving_loads_no_weights_and_gives_the_embedder(
    tiny_path: Path, cache: VectorCache, tmp_path: Path, loads: list[Blueprint]
) -> None:
    plan = drawn(tiny_path)[1]
    encoder = CachedEncoder(plan, cache)
    encoder.save(tmp_path / "model")
    assert not loads
    np.testing.assert_allclose(Embedder.load(tmp_path / "model").encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    centred = CachedEncoder(plan, cache, centred=True)
    centred.save(tmp_path / "centred")
    np.testing.assert_allclose(Embedder.load(tmp_path / "centred").encode(TEXTS), centred.encode(TEXTS), atol=1e-5)


def test_saving_keeps_an_adapter(tiny_path: Path, cache: VectorCache, tmp_path: Path) -> None:
    spec = spec_of(tiny_path)
    trained = Embedder.from_pretrained(spec, adapter=AdapterSpec("lora", r=2))
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    trained.save(tmp_path / "trained")
    adapter = AdapterSpec("lora", path=str(tmp_path / "trained"))
    (plan,) = draw_up_variants(spec, [Variant(MeanPooling)], adapter=adapter)
    CachedEncoder(plan, cache).save(tmp_path / "again")
    assert (tmp_path / "again" / "adapter").is_dir()
    assert (tmp_path / "again" / MANIFEST).is_file()


def test_embedders_of_unlike_prompts_are_refused(tiny_path: Path, cache: VectorCache) -> None:
    one = drawn(tiny_path)[0]
    (other,) = draw_up_variants(spec_of(tiny_path), [Variant(MeanPooling)])
    with pytest.raises(ValueError, match="share"):
        CachedEncoder(one, cache, [other])
