"""LoRA as one operation: the values and gradients of PEFT's own layer, and of its formula in float64."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

from embedllm.kernels.fused_lora import FusedLoraLinear, LoraProduct, fuse
from embedllm.kernels.row_dropout import key_dropout, keyed_by, text_keys


def adapted(bias: bool = True, **settings: Any) -> nn.Module:
    """Return two linear layers with an adapter that does something, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=bias), nn.Tanh(), nn.Linear(5, 4, bias=bias))
    config = LoraConfig(r=3, lora_alpha=7, target_modules=["0", "2"], **settings)
    wrapped = get_peft_model(model, config).double()
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return wrapped


def values(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output, the gradient of the input and those of the adapter."""
    x = x.clone().requires_grad_()
    out = model(x)
    (out**3).sum().backward()
    assert x.grad is not None
    return [out.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad and p.grad is not None)]


def fused(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    fuse(twin)
    assert any(isinstance(module, FusedLoraLinear) for module in twin.modules())
    return twin


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 6), (2, 3, 6)])
def test_it_computes_what_peft_computes(bias: bool, shape: tuple[int, ...]) -> None:
    model = adapted(bias)
    x = torch.randn(shape, dtype=torch.float64)
    for ours, theirs in zip(values(fused(model), x), values(model, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", [{"use_dora": True}, {"lora_bias": True}])
def test_other_kinds_of_update_are_left_to_peft(variant: dict[str, Any]) -> None:
    model = adapted(**variant)
    x = torch.randn(3, 6, dtype=torch.float64)
    for ours, theirs in zip(values(fused(model), x), values(model, x), strict=True):
        assert torch.equal(ours, theirs)


def test_disabled_and_merged_adapters_are_left_out() -> None:
    model = fused(adapted())
    x = torch.randn(3, 6, dtype=torch.float64)
    on = model(x)
    with model.disable_adapter():
        off = model(x)
    assert not torch.allclose(on, off)
    model.merge_adapter()
    torch.testing.assert_close(model(x), on)


@pytest.mark.parametrize(
    "kept", [None, torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0]])], ids=["all", "dropout"]
)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_formula(kept: Tensor | None, bias: bool) -> None:
    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    torch.manual_seed(0)
    x, weight, a, b = drawn(3, 4), drawn(5, 4), drawn(2, 4).requires_grad_(), drawn(5, 2).requires_grad_()
    offset = drawn(5) if bias else None
    x.requires_grad_()

    def product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        result: Tensor = LoraProduct.apply(x, weight, offset, a, b, 0.7, None if kept is None else -kept)
        return result

    seen = x if kept is None else x * kept
    expected = x @ weight.T + (0 if offset is None else offset) + 0.7 * seen @ a.T @ b.T
    torch.testing.assert_close(product(x, a, b), expected)
    assert torch.autograd.gradcheck(product, (x, a, b))


def test_keyed_dropout_is_that_of_pefts_layer() -> None:
    model = adapted(lora_dropout=0.4).train()
    key_dropout(model)
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    with keyed_by(text_keys((1, 2), [0, 1, 2], torch.device("cpu"))):
        for ours, theirs in zip(values(fused(model), x), values(model, x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_dropout_follows_the_seed_and_is_off_in_evaluation() -> None:
    model = fused(adapted(lora_dropout=0.5)).train()
    x = torch.randn(50, 6, dtype=torch.float64)

    def seeded(seed: int) -> Tensor:
        torch.manual_seed(seed)
        result: Tensor = model(x)
        return result

    assert torch.equal(seeded(1), seeded(1))
    assert not torch.equal(seeded(1), seeded(2))
    model.eval()
    assert torch.equal(seeded(1), seeded(2))


def test_dropout_keeps_the_expected_output() -> None:
    model = fused(adapted(lora_dropout=0.3)).get_submodule("base_model.model.0")
    x = torch.randn(1, 6, dtype=torch.float64)
    exact = model.eval()(x)
    many = model.train()(x.expand(40_000, 6)).mean(dim=0, keepdim=True)
    torch.testing.assert_close(many, exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_autocast_decides_the_dtype(base: torch.dtype) -> None:
    model = adapted().float()
    for module in model.modules():
        if isinstance(module, PeftLinear):
            module.base_layer.to(base)
    x = torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = fused(model)(x)
    assert out.dtype == torch.bfloat16
    exact = adapted()(x.double())
    torch.testing.assert_close(out.double(), exact, rtol=0.05, atol=0.1)


def test_weights_of_two_dtypes_without_autocast_are_left_to_peft() -> None:
    model = adapted().float()
    for module in model.modules():
        if isinstance(module, PeftLinear):
            module.base_layer.bfloat16()
    x = torch.randn(4, 6, dtype=torch.bfloat16)
    assert torch.equal(fused(model)(x), model(x))
