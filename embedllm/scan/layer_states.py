"""The hidden states of a decoder at several depths out of one forward pass: each is what a model cut there would give.

Legend: B texts, L tokens, D hidden size.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from embedllm.decoder import blocks, find_final_norm
from embedllm.decoder_config import adapted_config
from embedllm.errors import InputError
from embedllm.model_source import reason


class Depth(NamedTuple):
    """Where hidden states are taken: ``model.layers`` and ``model.final_norm``."""

    layers: int
    final_norm: bool


Use = Callable[[Depth, Tensor], None]
"""Takes the hidden states at a depth, (B, L, D), which are gone afterwards."""


class LayerStates:
    """Hand out hidden states while a backbone computes.

    Args:
        backbone: as :func:`embedllm.backbone.load_backbone` returns it, with an adapter or without.
        final_norm: whether it has its final norm.
        depths: those to hand out. The backbone's own is its output, for the caller to take.

    Raises:
        ValueError: a depth is not in the backbone.
        InputError: there is no norm to be applied to the states of a block, or the hidden states are no numbers.
    """

    def __init__(self, backbone: nn.Module, final_norm: bool, depths: Collection[Depth]) -> None:
        self.blocks = blocks(backbone)
        self.own = Depth(len(self.blocks), final_norm)
        self.depths = sorted(set(depths) - {self.own})
        for depth in self.depths:
            if depth.layers > self.own.layers or depth.final_norm > final_norm:
                raise ValueError(f"{depth} cannot be had from a backbone of {self.own}")
        normed = any(depth.final_norm for depth in self.depths)
        self.norm: nn.Module = _final_norm(backbone) if normed else nn.Identity()

    @contextmanager
    def handed_to(self, use: Use) -> Iterator[None]:
        """Call ``use`` at each depth during a forward pass of the backbone."""
        with ExitStack() as stack:
            for depth in self.depths:
                hook = self._hook(depth, use)
                stack.callback(self.blocks[depth.layers - 1].register_forward_hook(hook).remove)
            yield

    def _hook(self, depth: Depth, use: Use) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            use(depth, self.norm(hidden) if depth.final_norm else hidden)

        return hook


def check_depth(config: PreTrainedConfig, layers: int, attention: str) -> None:
    """Make sure that the first blocks of a decoder are built as those of a decoder that has no others.

    In some families a block depends on how many there are: the last ones use the keys and values of others.

    Args:
        config: of the whole model.
        layers: number of blocks.
        attention: ``causal`` or ``bidirectional``.

    Raises:
        InputError: they are not.
    """
    whole, cut = (_skeleton(adapted_config(config, count, attention)) for count in (None, layers))
    if any(_facts(one) != _facts(other) for one, other in zip(blocks(whole), blocks(cut), strict=False)):
        raise InputError(
            f"model.layers: {layers} cannot be taken out of a pass through more layers, because in "
            f"{config.model_type!r} a layer depends on how many follow; make a run of its own with it"
        )


def _final_norm(backbone: nn.Module) -> nn.Module:
    """Return the norm after the last block."""
    found = find_final_norm(backbone)
    if found is None:
        raise InputError("model.layers: no norm after the last layer is found, so it cannot follow others")
    norm: nn.Module = getattr(*found)
    return norm


def _skeleton(config: PreTrainedConfig) -> nn.Module:
    """Return the decoder of ``config`` without memory for its weights."""
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except ValueError as error:
        depth = config.get_text_config(decoder=True).num_hidden_layers
        raise InputError(f"model.layers: {depth} is refused by {config.model_type!r} ({reason(error)})") from error
    decoder: nn.Module = model if config.get_text_config(decoder=True) is config else model.get_decoder()
    return decoder


def _facts(block: nn.Module) -> dict[str, Any]:
    """Return the plain settings and the shapes of the weights of all modules in a block."""
    settings = {
        f"{path}.{name}": value
        for path, module in block.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple | None)
    }
    return settings | {name: tuple(weight.shape) for name, weight in block.named_parameters()}
