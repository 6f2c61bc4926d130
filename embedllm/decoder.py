"""The parts and the attention of a loaded decoder, found from what it does: no architecture is known by name.

Legend: L tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from embedllm.errors import InputError

_SHARED, _CHANGED = 3, 3  # tokens of the probe before and after the first difference


def hidden_size(model: PreTrainedModel) -> int:
    """Return D, the width of the hidden states."""
    return int(model.config.get_text_config(decoder=True).hidden_size)


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Return the transformer blocks, in order: the largest list of ``num_hidden_layers`` modules."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if not lists:
        raise InputError(f"model.name: {type(model).__name__} has no list of {count} blocks, so it is not a decoder")
    return max(lists, key=lambda found: sum(weight.numel() for weight in found.parameters()))


def is_bidirectional(model: PreTrainedModel) -> bool:
    """Return whether a token's hidden state depends on the tokens after it, by changing those.

    Works on a model with adapters as well. Train and eval mode and the random state are left as they were.

    Raises:
        InputError: the answer differs with and without an attention mask.
    """
    ids = _probe_ids(model)  # (2, L)
    padded = torch.cat([ids, ids[:1, -1:].expand(2, 1)], dim=1)  # (2, L + 1)
    mask = torch.ones_like(padded)
    mask[:, -1] = 0
    with torch.no_grad(), eval_mode(model):
        bare = _shared_tokens_differ(model(input_ids=ids, use_cache=False).last_hidden_state)
        masked = _shared_tokens_differ(model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state)
    if bare != masked:
        raise InputError(f"model.attention: in {type(model).__name__} it depends on whether there is an attention mask")
    return bare


def has_own_dropout(model: Any) -> bool:
    """Return whether the model may drop states in training, be it in attention, whose draws no one can key."""
    config = model.config.get_text_config(decoder=True).to_dict()
    unused = ("classifier", "summary")  # of heads that are not there
    return any(value and "drop" in name and not name.startswith(unused) for name, value in config.items())


def remove_final_norm(model: PreTrainedModel) -> None:
    """Replace the norm after the last block by the identity, so that the hidden states are that block's output.

    Raises:
        InputError: there is no such norm, or it cannot be told.
    """
    found = find_final_norm(model)
    if found is None:
        raise InputError(f"model.final_norm: False, but {type(model).__name__} has no norm after its last block")
    setattr(*found, nn.Identity())


def find_final_norm(model: PreTrainedModel) -> tuple[nn.Module, str] | None:
    """Return the module that has the norm after the last block, and the name that it has there.

    None if no module beside the blocks turns the last block's output into the hidden states.

    Raises:
        InputError: it cannot be told, since the hidden states are no numbers.
    """
    layers = blocks(model)
    parent = next(module for module in model.modules() if any(child is layers for child in module.children()))
    calls: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if args and isinstance(args[0], Tensor):
                calls[name] = args[0], output[0] if isinstance(output, tuple) else output

        return hook

    siblings = {
        name: child
        for name, child in parent.named_children()
        if child is not layers and not isinstance(child, nn.Identity)
    }
    handles = [child.register_forward_hook(record(name)) for name, child in siblings.items()]
    handles.append(layers[-1].register_forward_hook(record("")))
    try:
        with torch.no_grad(), eval_mode(model):
            hidden = model(input_ids=_probe_ids(model), use_cache=False).last_hidden_state  # (2, L, D)
    finally:
        for handle in handles:
            handle.remove()
    if not hidden.isfinite().all():
        dtype = str(hidden.dtype).removeprefix("torch.")
        raise InputError(
            f"model.name: the hidden states of {model.config.name_or_path!r} in {dtype} hold NaN or infinity, and so "
            "would its vectors; the weights are damaged, or too large for this model.dtype"
        )
    states = calls.pop("", (hidden, hidden))[1]
    norms = [name for name, (x, y) in calls.items() if _same(x, states) and _same(y, hidden)]
    return (parent, norms[0]) if len(norms) == 1 else None


def _probe_ids(model: PreTrainedModel) -> Tensor:
    """Return two rows of tokens, (2, L), that are equal in the first tokens and unlike in the others.

    Unused tokens of a vocabulary may have the same embedding, so two are chosen that are far apart.
    """
    table = model.get_input_embeddings().weight  # (V, D)
    candidates = torch.linspace(0, len(table) - 1, min(len(table), 64), device=table.device).long()
    vectors = table[candidates].detach().float()
    first = vectors.norm(dim=-1).argmax()
    second = (vectors - vectors[first]).norm(dim=-1).argmax()
    a, b = int(candidates[first]), int(candidates[second])
    shared = [(a, b)[i % 2] for i in range(_SHARED)]
    return torch.tensor([shared + [a] * _CHANGED, shared + [b] * _CHANGED], device=table.device)


def _shared_tokens_differ(hidden: Tensor) -> bool:
    """Compare the two rows of (2, L, D) at the shared tokens, up to the rounding of their dtype."""
    rows = hidden[:, :_SHARED].float()
    change = (rows[0] - rows[1]).norm(dim=-1) / rows[0].norm(dim=-1)  # (_SHARED,)
    return bool(change.max() > max(1e-5, 2 * torch.finfo(hidden.dtype).eps))


def equal_states(found: Tensor, expected: Tensor) -> bool:
    """Return whether hidden states are equal but for the rounding of their dtype, which grows from block to block."""
    tolerance = max(1e-4, 20 * torch.finfo(expected.dtype).eps)
    return bool((found.float() - expected.float()).norm() < tolerance * expected.float().norm())


def _same(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and torch.equal(x, y)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch off dropout, and give every module its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
