"""One pass gives the vectors that each embedder gives by itself."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.blueprint import Blueprint
from embedllm.decoder import blocks
from embedllm.errors import InputError
from embedllm.pooling import (
    AttentionPooling,
    ConcatPooling,
    EosPooling,
    LastTokenPooling,
    MaxPooling,
    MeanPooling,
    PoolingHead,
    WeightedMeanPooling,
)
from embedllm.scan.layer_states import Depth, LayerStates, check_depth
from embedllm.scan.passes import Scan
from embedllm.scan.variants import Variant, check_plans, draw_up_variants

CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'
HEADS = (MeanPooling, LastTokenPooling, EosPooling, WeightedMeanPooling, MaxPooling, ConcatPooling)
TEXTS = [
    "The man drives the red car today.",
    "",
    " \n",
    "x",
    "🚗🚙 北京 naïve",
    "Our bank belongs to a cluster in one word. " * 40,  # cut
    "Nobody paints 42 rivers at 9:30. " * 3,
    "It ends here.",
    "x",
]
MAX_LENGTH = 64


def variants(template: str, layers: Sequence[int | None]) -> list[Variant]:
    """All that is possible."""
    suffix = bool(template.partition("{text}")[2])
    return [
        Variant(partial(head, pool_over=pool_over), depth, final_norm)
        for head in HEADS
        for pool_over in ("all", "text", "suffix")
        for depth in layers
        for final_norm in (True, False)
        if not (head is EosPooling and pool_over == "text")
        and not (pool_over == "suffix" and not suffix and head is not EosPooling)
    ]


def spec_of(folder: Path, attention: str = "causal") -> ModelSpec:
    return ModelSpec(str(folder), attention=attention, dtype="float32", max_length=MAX_LENGTH)


def expected(spec: ModelSpec, chosen: Sequence[Variant], template: str) -> list[npt.NDArray[np.float32]]:
    """Encode with an embedder for each depth and tokenization, whose head is changed."""
    embedders: dict[object, Embedder] = {}
    vectors = []
    for variant in chosen:
        head = variant.head(32)
        head.normalize = False
        key = variant.layers, variant.final_norm, head.appends_eos
        if key not in embedders:
            cut = ModelSpec(**{**vars(spec), "layers": variant.layers, "final_norm": variant.final_norm})
            embedders[key] = Embedder.from_pretrained(cut, template=template, head=variant.head)
        embedders[key].head = head
        vectors.append(embedders[key].encode(TEXTS))
    return vectors


def assert_equal(found: Sequence[npt.NDArray[np.float32]], wanted: Sequence[npt.NDArray[np.float32]]) -> None:
    assert len(found) == len(wanted)
    for ours, reference in zip(found, wanted, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("template", ["{text}", CLUSTER])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2", "olmo2"])
def test_one_pass_equals_an_embedder_for_each_variant(
    make_decoder: Callable[[str], Path], architecture: str, template: str
) -> None:
    spec = spec_of(make_decoder(architecture))
    chosen = variants(template, [None, 1, 2])
    plans = draw_up_variants(spec, chosen, template=template)
    found = Scan(Embedder.from_pretrained(spec), plans).encode(TEXTS)
    assert_equal(found, expected(spec, chosen, template))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("template", ["{text}", CLUSTER])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_attention_both_ways_gets_a_pass_without_eos(
    make_decoder: Callable[[str], Path], architecture: str, template: str
) -> None:
    spec = spec_of(make_decoder(architecture), "bidirectional")
    chosen = variants(template, [None, 2])
    plans = draw_up_variants(spec, chosen, template=template)
    found = Scan(Embedder.from_pretrained(spec), plans).encode(TEXTS)
    assert_equal(found, expected(spec, chosen, template))


def test_batches_do_not_change_a_vector(tiny_path: Path) -> None:
    spec = spec_of(tiny_path)
    scan = Scan(Embedder.from_pretrained(spec), draw_up_variants(spec, variants(CLUSTER, [None, 1]), template=CLUSTER))
    assert_equal(scan.encode(TEXTS, batch_tokens=1), scan.encode(TEXTS))


def test_tokens_go_through_the_backbone_once(tiny_path: Path) -> None:
    spec = spec_of(tiny_path)
    embedder = Embedder.from_pretrained(spec)
    scan = Scan(embedder, draw_up_variants(spec, variants(CLUSTER, [None, 1]), template=CLUSTER))
    seen: list[int] = []
    embedder.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    scan.encode(["a car", "a longer car", "the longest car of all"])
    assert sum(seen) - 3 in (0, 1 + 2 + 1 + 2)  # once, besides the prefix, and whether the model can go on after it


def test_only_texts_that_are_cut_for_eos_or_empty_have_a_second_pass(tiny_path: Path) -> None:
    spec = spec_of(tiny_path)
    embedder = Embedder.from_pretrained(spec)
    scan = Scan(embedder, draw_up_variants(spec, [Variant(MeanPooling), Variant(EosPooling)]))
    seen: list[list[int]] = []
    embedder.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: seen.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    scan.encode(["a car", "", "z" * 500, "z" * (MAX_LENGTH - 1)])
    assert len(seen) == 6


def test_a_model_without_its_final_norm_is_scanned(tiny_path: Path) -> None:
    spec = ModelSpec(**{**vars(spec_of(tiny_path)), "final_norm": False})
    chosen = [variant for variant in variants(CLUSTER, [None, 1]) if not variant.final_norm]
    found = Scan(Embedder.from_pretrained(spec), draw_up_variants(spec, chosen, template=CLUSTER)).encode(TEXTS)
    assert_equal(found, expected(spec, chosen, CLUSTER))
    with pytest.raises(ValueError, match="final_norm=True"):
        Scan(Embedder.from_pretrained(spec), draw_up_variants(spec, [Variant(MeanPooling)]))


def test_the_last_layer_of_an_adapted_model_is_the_adapted_one(tiny_path: Path) -> None:
    spec = spec_of(tiny_path)
    embedder = Embedder.from_pretrained(spec, adapter=AdapterSpec("lora", r=4))
    assert isinstance(embedder.backbone, PeftModel)
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    plans = draw_up_variants(spec, [Variant(MeanPooling, 2), Variant(MeanPooling, 1)])
    last, first = Scan(embedder, plans).encode(TEXTS)
    embedder.head.normalize = False
    np.testing.assert_allclose(last, embedder.encode(TEXTS), rtol=1e-5, atol=1e-5)
    plain = Scan(Embedder.from_pretrained(spec), plans).encode(TEXTS)
    assert not np.allclose(first, plain[1], atol=1e-2)


def test_a_learned_head_is_used_as_it_is_and_left_alone(tiny_path: Path) -> None:
    spec = spec_of(tiny_path)
    embedder = Embedder.from_pretrained(spec, head=AttentionPooling)
    nn.init.normal_(embedder.head.query)
    plan = Blueprint(spec, embedder.prompt, embedder.head, embedder.head_config, None)
    (found,) = Scan(embedder, [plan]).encode(TEXTS)
    assert embedder.head.normalize
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, embedder.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_scan_leaves_the_backbone_as_it_was(tiny_path: Path, training: bool) -> None:
    spec = spec_of(tiny_path)
    embedder = Embedder.from_pretrained(spec).train(training)
    before = embedder.encode(TEXTS)
    Scan(embedder, draw_up_variants(spec, variants("{text}", [None, 1]))).encode(TEXTS)
    assert embedder.backbone.training == training
    assert not any(block._forward_hooks for block in blocks(embedder.backbone))
    assert np.array_equal(embedder.encode(TEXTS), before)


def test_states_are_handed_out_once_and_layer_by_layer(tiny_path: Path) -> None:
    backbone = Embedder.from_pretrained(spec_of(tiny_path)).backbone
    states = LayerStates(backbone, True, [Depth(1, True), Depth(1, False), Depth(2, False)])
    seen: list[Depth] = []
    with torch.no_grad(), states.handed_to(lambda depth, hidden: seen.append(depth)):
        backbone(input_ids=torch.tensor([[5, 6]]), use_cache=False)
    assert seen == [Depth(1, False), Depth(1, True), Depth(2, False)]


def test_embedders_of_unlike_prompts_share_no_pass(tiny_path: Path) -> None:
    spec = spec_of(tiny_path)
    one, other = (
        draw_up_variants(spec, [Variant(MeanPooling)], template=template)[0] for template in ("{text}", CLUSTER)
    )
    (with_bos,) = draw_up_variants(spec, [Variant(MeanPooling)], bos=True)
    for unlike in (other, with_bos):
        with pytest.raises(ValueError, match="share"):
            check_plans([one, unlike])


def test_a_layer_that_depends_on_those_after_it_is_refused() -> None:
    config = AutoConfig.for_model(
        "gemma3n_text",
        num_hidden_layers=6,
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 3,
        hidden_size=16,
        intermediate_size=[32] * 6,
        vocab_size=50,
        vocab_size_per_layer_input=50,
        hidden_size_per_layer_input=4,
        activation_sparsity_pattern=[0.0] * 6,
    )
    check_depth(config, 6, "causal")
    with pytest.raises(InputError, match="model.layers: 5 .*'gemma3n_text'"):
        check_depth(config, 5, "causal")


@pytest.mark.parametrize(
    ("head", "layers", "message"),
    [
        (partial(MeanPooling, pool_over="suffix"), None, "pooling.pool_over: 'suffix'"),
        (MeanPooling, 9, "model.layers: 9"),
        (partial(EosPooling, pool_over="text"), None, "pooling.pool_over: 'text'"),
    ],
)
def test_an_impossible_variant_is_refused(
    tiny_path: Path, head: Callable[[int], PoolingHead], layers: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw_up_variants(spec_of(tiny_path), [Variant(MeanPooling), Variant(head, layers)])
