"""Hands any text encoder to mteb."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class TextEncoder(Protocol):
    """What can be scored."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one vector a text, in order, (N, D) float32."""
        ...


class ProgressEncoder(Protocol):
    """An encoder that can show a bar."""

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> npt.NDArray[np.float32]:
        """Return one vector a text, in order, (N, D) float32; ``progress`` shows a bar."""
        ...


class SavedEncoder(ProgressEncoder, Protocol):
    """One that can be written to a folder."""

    def save(self, folder: str | Path) -> None:
        """Write what :meth:`embedllm.embedder.Embedder.load` reads."""
        ...


class Watched:
    """An encoder that shows a bar whenever it encodes."""

    def __init__(self, encoder: ProgressEncoder) -> None:
        self.encoder = encoder

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of the encoder, (N, D) float32."""
        return self.encoder.encode(texts, progress=True)


class EncodingError(ValueError):
    """The encoder returned something that is not one finite vector a text."""


def make_encoder(encoder: TextEncoder, name: str, revision: str) -> Any:
    """Return ``encoder`` as an mteb encoder with cosine similarity.

    Its attribute ``texts_encoded`` counts the texts embedded so far.

    Args:
        encoder: Gets all texts of a call at once; batching and sorting by length are its own affair.
        name: A name of the form ``organisation/model``.
        revision: What tells apart two models of one name: mteb's caches go by both.
    """
    return _encoder_class()(encoder, name, revision)


@functools.cache
def _encoder_class() -> type[Any]:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction

    class MTEBEncoder(AbsEncoder):  # type: ignore[misc]
        """An encoder by mteb's protocol. The prompt is the encoder's own: mteb's task prompts are not used."""

        def __init__(self, encoder: TextEncoder, name: str, revision: str) -> None:
            self.encoder = encoder
            self.texts_encoded = 0
            identity = {"name": name, "revision": revision, "similarity_fn_name": ScoringFunction.COSINE}
            self.mteb_model_meta = ModelMeta.create_empty(overwrites=identity)

        def encode(self, inputs: Any, **_: Any) -> npt.NDArray[np.float32]:
            """Return the vectors of all texts in the batches of ``inputs``, in order, (N, D) float32."""
            texts = [text for batch in inputs for text in batch["text"]]
            self.texts_encoded += len(texts)
            return _checked(np.asarray(self.encoder.encode(texts), dtype=np.float32), len(texts))

    return MTEBEncoder


def _checked(vectors: npt.NDArray[np.float32], texts: int) -> npt.NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != texts:
        raise EncodingError(f"the encoder returned an array of shape {vectors.shape} for {texts} texts")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EncodingError(f"{len(bad)} of {texts} vectors hold NaN or infinity (the first is that of text {bad[0]})")
    return vectors
