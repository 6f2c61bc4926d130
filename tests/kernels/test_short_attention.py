"""Attention over short texts: the states and gradients of PyTorch's own attention, in every family of models."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_decoders import ARCHITECTURES
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from embedllm.backbone import load_backbone
from embedllm.kernels import short_attention as module_
from embedllm.kernels.short_attention import LONGEST, NAME, attention, short_attention


class Layer(nn.Module):
    """What of an attention layer is asked for."""

    def __init__(self, heads: int, shared: int, causal: bool) -> None:
        super().__init__()
        self.num_key_value_groups, self.is_causal = heads // shared, causal


def states(heads: int, shared: int, length: int = 6) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(3, heads, length, 4), (3, shared, length, 4), (3, shared, length, 4)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def values(function: Callable[..., Any], layer: Layer, tensors: list[Tensor], **options: Any) -> list[Tensor]:
    tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    out, _ = function(layer, *tensors, **options)
    (out**3).sum().backward()
    return [out.detach(), *(tensor.grad for tensor in tensors if tensor.grad is not None)]


def mask_of(kind: str) -> Tensor | None:
    if kind == "none":
        return None
    visible = torch.ones(3, 1, 6, 6, dtype=torch.bool)
    visible[1, ..., 4:] = False
    return visible if kind == "visible" else torch.zeros(3, 1, 6, 6, dtype=torch.float64).masked_fill(~visible, -1e9)


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("mask", ["none", "visible", "added"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_it_is_pytorchs_attention(heads: int, shared: int, mask: str, causal: bool, scaling: float | None) -> None:
    layer, tensors = Layer(heads, shared, causal), states(heads, shared)
    options = {"attention_mask": mask_of(mask), "scaling": scaling}
    theirs, ours = (values(f, layer, tensors, **options) for f in (sdpa_attention_forward, attention))
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)  # softmax in float32


def test_padding_that_sees_nothing_is_no_nan() -> None:
    visible = torch.ones(3, 1, 6, 6, dtype=torch.bool)
    visible[:, :, 4] = False
    for tensor in values(attention, Layer(4, 2, False), states(4, 2), attention_mask=visible):
        assert tensor.isfinite().all()


def test_what_it_is_not_made_for_goes_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module_, "sdpa_attention_forward", lambda *args, **_: calls.append(args) or (args[1], None))
    layer = Layer(2, 2, True)
    attention(layer, *states(2, 2), None)
    assert not calls
    attention(layer, *states(2, 2, LONGEST + 1), None)
    attention(layer, *states(2, 2), None, dropout=0.1)
    attention(layer, *states(2, 2), None, position_bias=torch.zeros(1))
    query, key, value = states(2, 2)
    attention(layer, query[:, :, :1], key, value, None)
    assert len(calls) == 4


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("kind", ["causal", "bidirectional"])
def test_hidden_states_and_gradients_of_every_family(
    architecture: str, kind: str, make_decoder: Callable[[str], Path]
) -> None:
    try:
        model = load_backbone(str(make_decoder(architecture)), dtype="float32", attention=kind)
    except ValueError:
        pytest.skip("it has no such attention")
    ids = torch.arange(3, 17).view(2, -1)
    mask = None if kind == "causal" else torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    real = torch.ones(2, 7) if mask is None else mask
    found = []
    for short in (False, True):
        model.zero_grad()
        if short:
            with short_attention(model):
                hidden = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        else:
            hidden = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        ((hidden * real.unsqueeze(-1)) ** 3).sum().backward()
        gradients = [p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]
        found.append((hidden.detach() * real.unsqueeze(-1), torch.cat(gradients)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-4 * float(found[0][1].abs().max()))


def test_the_attention_of_a_model_is_given_back(make_decoder: Callable[[str], Path]) -> None:
    model = load_backbone(str(make_decoder("llama")), dtype="float32")
    assert model.config._attn_implementation == "sdpa"
    with contextlib.suppress(RuntimeError), short_attention(model):
        assert model.config._attn_implementation == NAME
        raise RuntimeError
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with short_attention(model):
        assert model.config._attn_implementation == "eager"
