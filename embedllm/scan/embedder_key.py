"""The key of an embedder that is loaded: a digest of all that decides the vector of a text besides the text."""

import hashlib
from dataclasses import replace
from pathlib import Path

from embedllm.blueprint import Blueprint
from embedllm.embedder import Embedder, find_saved
from embedllm.scan.vector_key import variant_key


def embedder_key(embedder: Embedder, path: str | Path) -> str:
    """Return 64 hex digits, the same for embedders that give the same vectors; see :mod:`embedllm.scan.vector_key`.

    Args:
        embedder: as it was loaded.
        path: what :meth:`embedllm.embedder.Embedder.load` loaded it from.

    Raises:
        InputError: the weights or the code of the head cannot be told from others.
    """
    adapter = None
    if embedder.adapter.kind != "none":
        adapter = replace(embedder.adapter, path=str(find_saved(path)))
    plan = Blueprint(embedder.spec, embedder.prompt, embedder.head, embedder.head_config, adapter)
    digest = hashlib.sha256(f"{variant_key(plan)} {embedder.head.normalize}".encode())
    if embedder.centring is not None:
        digest.update(embedder.centring.mean.cpu().numpy().tobytes())
    return digest.hexdigest()
