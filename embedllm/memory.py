"""What a training keeps in memory: measured for one token, and added up for a pool."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from embedllm.adapter import training_casts
from embedllm.engine import ContrastiveStep

PROBE_TOKENS = 64
SPARE = 2
"""What is kept for the backward pass takes about as much again while it is made and used."""


def bytes_per_token(step: ContrastiveStep) -> float:
    """Return what a forward pass keeps of each token for the backward pass, in bytes.

    It is the difference between two texts and one, so what does not depend on the tokens is left out. What checkpointed
    blocks keep is not seen.
    """
    row = [0] * min(PROBE_TOKENS, step.embedder.spec.max_length)
    one, two = (_kept(step, [row] * count) for count in (1, 2))
    return (two - one) / len(row)


def fitting_tokens(step: ContrastiveStep, free: float, highest: int) -> int:
    """Return the largest power of two, up to ``highest``, of tokens whose graph fits into ``free`` bytes."""
    tokens, each = highest, bytes_per_token(step) * SPARE
    while tokens > 1 and tokens * each > free:
        tokens //= 2
    return tokens


def expected_bytes(step: ContrastiveStep, sizes: Sequence[Sequence[int]]) -> float:
    """Return what a training takes: weights, gradients, the two values of Adam a weight, and the graphs.

    Args:
        step: of the training.
        sizes: tokens of the micro-batches of each worker of this process.
    """
    parameters = [*step.embedder.parameters(), *step.loss.parameters()]
    weights = sum(p.numel() * p.element_size() for p in parameters)
    trained = sum(p.numel() * (p.element_size() + 8) for p in parameters if p.requires_grad)
    kept = sum(max(part, default=0) if step.grad_cache else sum(part) for part in sizes)
    return weights + trained + bytes_per_token(step) * kept


def _kept(step: ContrastiveStep, rows: Sequence[Sequence[int]]) -> int:
    """Return the bytes that a graph of ``rows`` holds besides the weights."""
    embedder, device = step.embedder, step.embedder.device
    weights = {parameter.untyped_storage().data_ptr() for parameter in embedder.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    autocast = torch.autocast(device.type, dtype=step.autocast, enabled=step.autocast is not None)
    random_state = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    casts, hooks = training_casts(embedder.backbone, step.autocast), saved_tensors_hooks(pack, lambda tensor: tensor)
    with random_state, autocast, casts, hooks:
        vectors = embedder(*embedder.collate(rows))  # held until the bytes are counted, so that none is used twice
    del vectors
    return sum(kept.values())
