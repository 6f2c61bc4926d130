"""The cells of a scan: what is scored of one model and prompt."""

from dataclasses import dataclass

from embedllm.pooling import LastTokenPooling, PoolingHead
from embedllm.prompt import Prompt


@dataclass(frozen=True)
class Cell:
    """One way to make vectors; its fields are the settings of a run that makes the same."""

    pooling: str
    """An option of conf/pooling."""
    pool_over: str
    layers: int
    centring: bool


def depths(layers: int, every: int | None) -> list[int]:
    """Return the depths to scan, ascending: ``layers``, and every so many below it.

    >>> depths(30, 12)
    [6, 18, 30]
    """
    return [layers] if every is None else sorted(range(layers, 0, -every))


def differs_from_all(head: type[PoolingHead], pool_over: str, prompt: Prompt) -> bool:
    """Return whether a head can pool over ``pool_over``, and gives other vectors than over ``all`` tokens.

    Args:
        head: its class.
        pool_over: ``all``, ``text`` or ``suffix``.
        prompt: without the EOS that a head may ask for.
    """
    if pool_over == "all":
        return True
    if pool_over == "text":
        return not head.appends_eos and prompt.prefix_tokens + prompt.suffix_tokens > 0
    return prompt.suffix_tokens > 0 and not issubclass(head, LastTokenPooling)
