"""Frozen weights in a lower precision for a while."""

import contextlib

import torch
from torch import nn

from embedllm.kernels.low_precision import lowered


def model() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(3, 4).half())
    made[0].requires_grad_(False)
    made[2].requires_grad_(False)
    return made


def test_frozen_float32_weights_are_rounded_and_given_back_with_their_bits() -> None:
    made = model()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    with contextlib.suppress(RuntimeError), lowered(made, torch.bfloat16):
        assert torch.equal(made[0].weight, before["0.weight"].bfloat16())
        assert [made[0].bias.dtype, made[1].weight.dtype, made[2].weight.dtype] == [
            torch.bfloat16,
            torch.float32,
            torch.float16,
        ]
        raise RuntimeError
    for name, tensor in made.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_nothing_changes_without_a_dtype() -> None:
    made = model()
    with lowered(made, None):
        assert made[0].weight.dtype == torch.float32
