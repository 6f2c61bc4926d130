"""Key and value states of a batch whose rows begin with prefixes that other rows have too.

Legend: B rows, H heads, P tokens of the longest prefix, S tokens that there is room for, d width of a head.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

States = list[tuple[Tensor, Tensor]]
"""Keys and values, (1, H, P, d) each, of every layer."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer with room for all tokens to come: transformers' own copies everything for each token.

    Args:
        room: S.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.used = room, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add the states of new tokens, and return those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys = self._space(key_states)
            self.values = self._space(value_states)
        end = self.used + key_states.size(2)
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Return the tokens so far."""
        return self.used

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        self.keys, self.values = self.keys[indices], self.values[indices]

    def _space(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_zeros(rows, heads, self.room, width)


def has_plain_cache(model: Any) -> bool:
    """Return whether all layers of a model look at all tokens; only then can a prefix be computed once."""
    layers = DynamicCache(config=model.config).layers
    return len(layers) > 0 and all(type(layer) is DynamicLayer for layer in layers)


def prefix_states(model: Any, ids: tuple[int, ...]) -> States:
    """Return the states of a prefix, computed alone."""
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(
            input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
    return [(layer.keys, layer.values) for layer in cache.layers]


def joined(prefixes: list[States], room: int) -> Cache:
    """Return the cache of a batch, with each row's prefix padded on the left.

    Args:
        prefixes: of each row; rows may share one.
        room: tokens after the prefix.
    """
    longest = max(states[0][0].size(2) for states in prefixes)
    cache = Cache(layers=[RoomyLayer(longest + room) for _ in prefixes[0]])
    for index in range(len(prefixes[0])):
        keys, values = (torch.cat([_padded(states[index][side], longest) for states in prefixes]) for side in (0, 1))
        cache.update(keys, values, index)
    return cache


def merged(caches: list[Cache], room: int) -> Cache:
    """Return the cache of all rows of several batches, each padded on the left.

    Args:
        caches: of the batches.
        room: tokens to come.
    """
    longest = max(cache.get_seq_length() for cache in caches)
    whole = Cache(layers=[RoomyLayer(longest + room) for _ in caches[0].layers])
    for index in range(len(caches[0].layers)):
        used = [(cache.layers[index], cache.get_seq_length()) for cache in caches]
        keys = torch.cat([_padded(layer.keys[:, :, :tokens], longest) for layer, tokens in used])
        values = torch.cat([_padded(layer.values[:, :, :tokens], longest) for layer, tokens in used])
        whole.update(keys, values, index)
    return whole


def _padded(states: Tensor, length: int) -> Tensor:
    missing = length - states.size(2)
    return torch.nn.functional.pad(states, (0, 0, missing, 0)) if missing else states
