"""RMSNorm in one go: the values of transformers' own norms, and the gradient of their formula."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_decoders import ARCHITECTURES
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from embedllm.backbone import load_backbone
from embedllm.kernels.fused_norm import FusedNorm, NormProduct, fuse_norms

NORMS = pytest.mark.parametrize("norm", [LlamaRMSNorm, Qwen3RMSNorm, nn.RMSNorm])


def made(norm: type[nn.Module], dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A norm with a weight, and the same fused."""
    torch.manual_seed(0)
    plain = norm(24, eps=1e-5)
    nn.init.normal_(plain.weight)
    plain = plain.to(dtype)
    fused = nn.ModuleList([copy.deepcopy(plain)])
    fuse_norms(fused)
    return plain, fused[0]


def values(module: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Output, gradient of the input, gradient of the weight."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    out = module(x)
    out.backward(upstream)
    assert x.grad is not None
    return [out.detach(), x.grad, module.weight.grad]


@NORMS
@pytest.mark.parametrize("shape", [(24,), (7, 24), (3, 5, 24)])
def test_values_are_equal_and_gradients_close(norm: type[nn.Module], shape: tuple[int, ...]) -> None:
    plain, fused = made(norm, torch.float32)
    assert isinstance(fused, FusedNorm)
    x, upstream = torch.randn(shape) * 3, torch.randn(shape)
    theirs, ours = values(plain, x, upstream), values(fused, x, upstream)
    assert torch.equal(ours[0], theirs[0])
    for mine, its in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


def test_bfloat16_has_the_same_values_and_no_worse_gradients() -> None:
    plain, fused = made(LlamaRMSNorm, torch.bfloat16)
    x, upstream = torch.randn(200, 24).bfloat16(), torch.randn(200, 24).bfloat16()
    theirs, ours = values(plain, x, upstream), values(fused, x, upstream)
    exact = values(copy.deepcopy(plain).float(), x.float(), upstream.float())
    assert torch.equal(ours[0], theirs[0])
    for mine, its, truth in list(zip(ours, theirs, exact, strict=True))[1:]:
        error, reference = (mine - truth).norm(), (its - truth).norm()
        assert error < 1.5 * reference + 1e-3 * truth.norm()


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 8), (8,)))
    expected = weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(NormProduct.apply(x, weight, 1e-5), expected)
    assert torch.autograd.gradcheck(lambda x, weight: NormProduct.apply(x, weight, 1e-5), (x, weight))


def test_another_formula_is_left_alone() -> None:
    model = nn.ModuleList([GemmaRMSNorm(24), nn.LayerNorm(24), nn.Linear(24, 24)])
    nn.init.normal_(model[0].weight)
    fuse_norms(model)
    assert [type(module) for module in model] == [GemmaRMSNorm, nn.LayerNorm, nn.Linear]


def test_another_dtype_than_the_weights_is_left_to_the_norms_own_class() -> None:
    plain, fused = made(LlamaRMSNorm, torch.float32)
    x = torch.randn(5, 24).bfloat16()
    assert torch.equal(fused(x), plain(x))


def test_fusing_twice_and_copying_change_nothing() -> None:
    _, fused = made(LlamaRMSNorm, torch.float32)
    kind = type(fused)
    fuse_norms(fused)
    x = torch.randn(5, 24)
    assert type(fused) is kind
    assert torch.equal(copy.deepcopy(fused)(x), fused(x))


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_hidden_states_of_every_family_stay_as_they_are(architecture: str, make_decoder: Callable[[str], Path]) -> None:
    model = load_backbone(str(make_decoder(architecture)), dtype="float32")
    ids = torch.arange(3, 14).view(1, -1)
    with torch.no_grad():
        before = model(input_ids=ids).last_hidden_state
        fuse_norms(model)
        assert torch.equal(model(input_ids=ids).last_hidden_state, before)
