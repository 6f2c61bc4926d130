"""What the tokens of a text do to its vector: by leaving each out, and by the gradient at its embedding.

Leave one out: the cosine distance between the vector of the text and that of the same tokens without one; the tokens
after it move up by one place. The token is taken out of the row of ids, not out of the text, so the others stay as
they are; tokens of the prompt and BOS too can be taken out.

Gradient x input: s is the cosine distance between the vector of the text, before centring, and the mean of the vectors
of reference texts. For the token i with the embedding e_i its part is ds/de_i · e_i: to first order, what growing
e_i by one percent adds to s is a hundredth of it. Positive: the token makes the vector unlike that of any text. Two
obvious choices of s are of no use. The cosine with the text's own vector is largest where it is measured, so its
gradient is zero. The length of the vector is kept nearly constant by the norm that decoders end in.

Legend: n tokens of a text, D width of the vectors.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from tqdm.auto import tqdm

from embedllm.centring import reference_texts
from embedllm.decoder import eval_mode
from embedllm.embedder import Embedder

Floats = npt.NDArray[np.float64]

REFERENCE_TEXTS = 64
"""Whose mean vector gradient x input measures the distance from."""


def left_out(embedder: Embedder, row: Sequence[int], *, progress: bool = False) -> Floats:
    """Return the cosine distance, (n,), between the vector of a text and that of the text without each token.

    NaN where nothing that the head could pool is left. Without its only token a text is empty, and its vector is that
    of the empty text.

    Args:
        embedder: makes the vectors.
        row: the n token ids of the text.
        progress: show a bar.
    """
    prompt = embedder.prompt
    end = len(row) - prompt.suffix_tokens
    places = {"prefix": range(prompt.prefix_tokens), "suffix": range(end, len(row))}
    places["text"] = range(prompt.prefix_tokens, end)
    (whole,) = _vectors(embedder, [row], progress=False)
    distances = np.full(len(row), np.nan)
    with tqdm(total=len(row), unit="tok", desc="leave one out", disable=not progress, delay=3) as bar:
        for part, positions in places.items():
            if not positions or (part == "suffix" and embedder.head.pool_over == "suffix" and len(positions) == 1):
                continue
            rows = [[*row[:i], *row[i + 1 :]] or embedder.tokenize([""])[0] for i in positions]
            with _shorter(embedder, part):
                vectors = _vectors(embedder, rows, progress=bar)
            distances[positions] = 1 - _cosines(vectors, whole)
    return distances


def gradient_x_input(embedder: Embedder, row: Sequence[int], direction: Floats) -> Floats:
    """Return each token's part, (n,), in the cosine distance between the text's vector and ``direction``.

    Args:
        embedder: makes the vectors.
        row: the n token ids of the text.
        direction: (D,), see :func:`mean_direction`.
    """
    with eval_mode(embedder), torch.enable_grad(), _raw(embedder), _leaf_embeddings(embedder.backbone) as leaves:
        (vector,) = embedder(*embedder.collate([row]))
        towards = torch.as_tensor(direction, device=vector.device, dtype=vector.dtype)
        distance = 1 - cosine_similarity(vector, towards, dim=0)
        (gradient,) = torch.autograd.grad(distance, leaves[0])
    parts: Floats = (gradient.double() * leaves[0].double()).sum(dim=-1)[0].detach().cpu().numpy()  # (n,)
    return parts


def mean_direction(embedder: Embedder) -> Floats:
    """Return the mean, (D,), of the vectors of reference texts, of unit length and before centring."""
    with _raw(embedder):
        vectors = embedder.encode(reference_texts(REFERENCE_TEXTS)).astype(np.float64)
    mean: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
    return mean


def _vectors(embedder: Embedder, rows: Sequence[Sequence[int]], progress: Any) -> Floats:
    vectors = np.empty((len(rows), embedder.output_size))
    for batch, found in embedder.encode_rows(rows):
        vectors[batch] = found
        if progress:
            progress.update(len(batch))
    return vectors


def _cosines(vectors: Floats, other: Floats) -> Floats:
    cosines: Floats = vectors @ other / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(other))
    return cosines


@contextmanager
def _shorter(embedder: Embedder, part: str) -> Iterator[None]:
    """Let the prompt of ``embedder`` have one token less in a part, so that pooling finds the others, while inside."""
    before = embedder.prompt
    if part != "text":
        name = f"{part}_tokens"
        embedder.prompt = replace(before, **{name: getattr(before, name) - 1})
    try:
        yield
    finally:
        embedder.prompt = before


@contextmanager
def _raw(embedder: Embedder) -> Iterator[None]:
    """Neither centre nor normalise vectors while inside."""
    centring, normalizes = embedder.centring, embedder.head.normalize
    embedder.centring, embedder.head.normalize = None, False
    try:
        yield
    finally:
        embedder.centring, embedder.head.normalize = centring, normalizes


@contextmanager
def _leaf_embeddings(backbone: Any) -> Iterator[list[Tensor]]:
    """Yield a list that gets the embeddings of the tokens, (1, n, D), that a forward pass starts from.

    They are leaves of its graph, as far as autograd is concerned.
    """
    leaves: list[Tensor] = []

    def cut(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = backbone.get_input_embeddings().register_forward_hook(cut)
    try:
        yield leaves
    finally:
        handle.remove()
