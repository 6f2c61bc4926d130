"""Leaving tokens out by hand, and gradients by finite differences in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from embedllm.adapter import AdapterSpec, merged
from embedllm.analysis.attribution import gradient_x_input, left_out, mean_direction
from embedllm.centring import reference_texts
from embedllm.embedder import Embedder
from embedllm.pooling import LastTokenPooling, MeanPooling, PoolingHead

PROMPT = 'This sentence : "{text}" means in one word:'
TEXT = "The man drives the red car today."


@torch.no_grad()
def states(model: Any, ids: list[int]) -> np.ndarray:
    return model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("template", ["{text}", PROMPT])
@pytest.mark.parametrize("pooling", ["last", "mean", "text"])
def test_leaving_out_by_hand(architecture: str, template: str, pooling: str, decoder: Callable[..., Embedder]) -> None:
    heads = {"last": LastTokenPooling, "mean": MeanPooling, "text": partial(MeanPooling, pool_over="text")}
    embedder = decoder(architecture, heads[pooling], template)
    model = AutoModel.from_pretrained(embedder.spec.name, dtype=torch.float32).eval()
    (ids,) = embedder.tokenize([TEXT])
    own = range(embedder.prompt.prefix_tokens, len(ids) - embedder.prompt.suffix_tokens)
    pick = {"last": [len(ids) - 1], "mean": range(len(ids)), "text": own}[pooling]
    whole = states(model, ids)[list(pick)].mean(axis=0)
    expected = []
    for out in range(len(ids)):
        kept = [i for i in range(len(ids)) if i != out]
        pooled = [place for place, i in enumerate(kept) if i in pick] or [len(kept) - 1]
        expected.append(distance(states(model, [ids[i] for i in kept])[pooled].mean(axis=0), whole))
    prompt = embedder.prompt
    np.testing.assert_allclose(left_out(embedder, ids), expected, atol=2e-5)
    assert embedder.prompt is prompt
    assert max(expected) > 1e-3


def test_without_its_only_token_a_text_is_empty(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("qwen3")  # no BOS
    (ids,) = embedder.tokenize(["a"])
    assert len(ids) == 1
    one, empty = embedder.encode(["a", ""]).astype(float)
    np.testing.assert_allclose(left_out(embedder, ids), [distance(one, empty)], atol=1e-6)


def test_a_text_of_one_token_leaves_the_prompt(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("qwen3", partial(MeanPooling, pool_over="text"), PROMPT)
    (ids,) = embedder.tokenize(["a"])
    one, empty = embedder.encode(["a", ""]).astype(float)
    found = left_out(embedder, ids)
    assert found[embedder.prompt.prefix_tokens] == pytest.approx(distance(one, empty), abs=1e-6)


def test_where_nothing_is_left_to_pool_there_is_no_number(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", partial(MeanPooling, pool_over="suffix"), "Text: {text}:")
    assert embedder.prompt.suffix_tokens == 1
    (ids,) = embedder.tokenize([TEXT])
    found = left_out(embedder, ids)
    assert np.isnan(found[-1])
    assert np.isfinite(found[:-1]).all()


def test_leaving_out_uses_centred_vectors(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama")
    (ids,) = embedder.tokenize([TEXT])
    raw = left_out(embedder, ids)
    embedder.centre()
    assert np.abs(left_out(embedder, ids) - raw).max() > 1e-4


@pytest.mark.parametrize(("architecture", "step", "rtol"), [("gpt2", 1e-5, 1e-6), ("llama", 1e-2, 1e-2)])
@pytest.mark.parametrize("head", [LastTokenPooling, MeanPooling])
def test_gradient_by_finite_differences(
    architecture: str, step: float, rtol: float, head: type[PoolingHead], decoder: Callable[..., Embedder]
) -> None:
    embedder = decoder(architecture, head, PROMPT).double()  # norms of llama compute in float32 all the same
    model = AutoModel.from_pretrained(embedder.spec.name, dtype=torch.float64).eval()
    (ids,) = embedder.tokenize([TEXT])
    direction = np.random.default_rng(0).normal(size=embedder.output_size)
    embeddings = model.get_input_embeddings()(torch.tensor([ids])).detach()

    @torch.no_grad()
    def measured(token: int, factor: float) -> float:
        changed = embeddings.clone()
        changed[0, token] *= factor
        hidden = model(inputs_embeds=changed).last_hidden_state[0].numpy()
        return distance(hidden[-1] if head is LastTokenPooling else hidden.mean(axis=0), direction)

    expected = np.array([(measured(i, 1 + step) - measured(i, 1 - step)) / (2 * step) for i in range(len(ids))])
    found = gradient_x_input(embedder, ids, direction)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_gradient_goes_through_an_adapter_and_leaves_no_trace(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", MeanPooling, adapter=AdapterSpec("lora"))
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    embedder.centre()
    parts = embedder.prompt, embedder.head, embedder.spec, embedder.head_config
    plain = Embedder(merged(embedder.backbone), *parts)
    (ids,) = embedder.tokenize([TEXT])
    direction = mean_direction(plain)
    centring = embedder.centring
    found = gradient_x_input(embedder, ids, direction)
    np.testing.assert_allclose(found, gradient_x_input(plain, ids, direction), rtol=1e-3, atol=1e-5)
    assert embedder.centring is centring
    assert embedder.head.normalize
    assert all(parameter.grad is None for parameter in embedder.parameters())
    assert not embedder.backbone.get_input_embeddings()._forward_hooks


def test_the_direction_is_the_mean_of_raw_vectors_of_unit_length(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama")
    vectors = embedder.encode(reference_texts(64)).astype(float)
    embedder.centre()
    np.testing.assert_allclose(mean_direction(embedder), vectors.mean(axis=0), atol=1e-5)
