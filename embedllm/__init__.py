"""Turn any decoder-only LLM into a text-embedding model."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedllm.embedder import Embedder, ModelSpec

__version__ = version("embedllm")
__all__ = ["Embedder", "ModelSpec", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when the embedder is asked for; a finished sweep needs neither."""
    if name not in ("Embedder", "ModelSpec"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from embedllm import embedder

    return getattr(embedder, name)
