"""LoRA on a linear layer as one operation, with PEFT's weights and PEFT's result, in less time and memory.

PEFT's forward pass scales and adds the update at the width of the layer's output, and draws one random number for each
element it may drop; on a CPU both cost as much as the multiplications. Here the update is accumulated by the matrix
product itself, and what is dropped is hashed (:mod:`embedllm.kernels.row_dropout`).

Legend: N tokens, I inputs, O outputs, r rank.
"""

from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from embedllm.kernels.row_dropout import RowDropout, mask, masked


class FusedLoraLinear(PeftLinear):  # type: ignore[misc]
    """A PEFT layer whose plain case is computed by :class:`LoraProduct`; any other case is left to PEFT."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output plus the scaled update, (..., O)."""
        dtype = _compute_dtype(x)
        if args or kwargs or not self._is_plain() or (dtype is None and not self._has_one_dtype(x)):
            return cast(Tensor, super().forward(x, *args, **kwargs))
        (name,) = self.active_adapters
        weight, bias = self.base_layer.weight, self.base_layer.bias
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        if dtype is not None:
            x, weight, a, b = x.to(dtype), weight.to(dtype), a.to(dtype), b.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        dropout = self.lora_dropout[name]
        p = dropout.p if self.training and isinstance(dropout, nn.Dropout) else 0.0
        kept = dropout.kept(x) if isinstance(dropout, RowDropout) else None
        if p > 0 and kept is None:
            kept = mask(torch.rand(x.shape, device=x.device) >= p, x.dtype)
        product: Any = LoraProduct.apply
        return cast(Tensor, product(x, weight, bias, a, b, self.scaling[name] / (1 - p), kept))

    def _is_plain(self) -> bool:
        adapters = self.active_adapters
        if self.disable_adapters or self.merged or len(adapters) != 1 or adapters[0] not in self.lora_A:
            return False
        plain_update = adapters[0] not in self.lora_variant and self.lora_B[adapters[0]].bias is None
        return plain_update and type(self.base_layer) is nn.Linear

    def _has_one_dtype(self, x: Tensor) -> bool:
        weights = self.base_layer.weight, *(self.lora_A[name].weight for name in self.active_adapters)
        return all(weight.dtype == x.dtype for weight in weights)


class LoraProduct(torch.autograd.Function):
    """``x @ weight.T + bias + scaling * (x & kept) @ a.T @ b.T``, all of one dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
        kept: Tensor | None,
    ) -> Tensor:
        """Return the product, (..., O).

        Args:
            ctx: of autograd.
            x: (..., I).
            weight: (O, I), frozen.
            bias: (O,), frozen, or None.
            a: (r, I).
            b: (O, r).
            scaling: of the update, and of what dropout keeps.
            kept: (..., I) integers as wide as ``x``, 0 where dropout makes the input of the update zero, else -1; None:
                no dropout.
        """
        rows = x.reshape(-1, x.size(-1))  # (N, I)
        seen = rows if kept is None else masked(rows, kept)
        inner = seen @ a.T  # (N, r)
        out = F.linear(rows, weight, bias).addmm_(inner, b.T, alpha=scaling)
        ctx.save_for_backward(seen, inner, weight, a, b, kept)
        ctx.scaling = scaling
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, a and b."""
        seen, inner, weight, a, b, kept = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.size(-1))  # (N, O)
        d_inner = (rows @ b).mul_(ctx.scaling)  # (N, r)
        d_a = d_inner.T @ seen
        d_b = (rows.T @ inner).mul_(ctx.scaling)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_seen = d_inner @ a  # (N, I)
            d_x = (d_seen if kept is None else masked(d_seen, kept)).addmm_(rows, weight)
            d_x = d_x.view(*gradient.shape[:-1], -1)
        return d_x, None, None, d_a, d_b, None, None


def fuse(model: nn.Module) -> None:
    """Let the plain LoRA layers of ``model`` compute by :class:`FusedLoraLinear`; their weights stay where they are."""
    for module in model.modules():
        if type(module) is PeftLinear:
            module.__class__ = FusedLoraLinear


def _compute_dtype(x: Tensor) -> torch.dtype | None:
    """Return the dtype that autocast asks for; None where it is off."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
