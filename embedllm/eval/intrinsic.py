"""Measures of vectors that need no labels: how close what belongs together is, and how much of the space is used.

They say why a score is what it is, and are cheap enough for every run. They are no scores: a constant encoder has
perfect alignment, and random vectors have nearly perfect uniformity.

Legend: N vectors of width D, P pairs.
"""

import logging
from itertools import combinations

import numpy as np
import numpy.typing as npt

from embedllm.data.embedded_files import resolve_data_path
from embedllm.data.formats import open_table
from embedllm.eval.encoder import TextEncoder

CORPUS = "embedded:wikipedia_sentences"
TEXTS = 256
"""The first so many sentences of the corpus, about 7,000 tokens."""

Array = npt.NDArray[np.floating]

logger = logging.getLogger(__name__)


def measures(encoder: TextEncoder) -> dict[str, float]:
    """Return ``alignment``, ``uniformity``, ``effective_rank`` and ``mean_cosine`` of the first texts of the corpus.

    Vectors are brought to unit length first. Pairs of the alignment are any two of the sentences that come from one
    article: they share a topic and no more, so the value compares models and is far above that of paraphrases. Where
    a vector holds NaN or infinity nothing is measured, and the dictionary is empty: no run is lost for it.
    """
    texts, pairs = corpus()
    vectors: Array = np.asarray(encoder.encode(texts), dtype=np.float64)
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        logger.warning("no intrinsic measures: %d of %d vectors hold NaN or infinity", bad, len(vectors))
        return {}
    vectors = unit(vectors)
    return {
        "alignment": alignment(vectors[pairs[:, 0]], vectors[pairs[:, 1]]),
        "uniformity": uniformity(vectors),
        "effective_rank": effective_rank(vectors),
        "mean_cosine": mean_cosine(vectors),
    }


def corpus() -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the texts that :func:`measures` encodes, and (P, 2) the positions of those from one article."""
    columns = ("title", "anchor")
    rows = list(open_table(resolve_data_path(CORPUS), columns, CORPUS).rows)[:TEXTS]
    titles = [row["title"] for row in rows]
    pairs = [(i, j) for i, j in combinations(range(len(rows)), 2) if titles[i] == titles[j]]
    return [row["anchor"] for row in rows], np.array(pairs)


def alignment(first: Array, second: Array) -> float:
    """Return the mean squared distance of positive pairs (Wang and Isola, 2020, with alpha = 2); 0 is closest, 4 most.

    Args:
        first: (P, D) unit vectors.
        second: (P, D) unit vectors; row i belongs together with row i of ``first``.
    """
    return float(((first - second) ** 2).sum(axis=1).mean())


def uniformity(vectors: Array, t: float = 2.0) -> float:
    """Return the log of the mean of ``exp(-t |x - y|^2)`` over pairs of different rows (Wang and Isola, 2020).

    It is 0 where all vectors are equal, and the lower, the more evenly they lie on the sphere.

    Args:
        vectors: (N, D) unit vectors or zeros, N at least 2.
        t: width of the Gaussian.
    """
    squares = (vectors**2).sum(axis=1)  # (N,), 1 or, of a row of zeros, 0
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T  # (N, N), squared
    return float(np.log(np.exp(-t * distances[np.triu_indices(len(vectors), k=1)]).mean()))


def effective_rank(vectors: Array) -> float:
    """Return the exponential of the entropy of the singular values (Roy and Vetterli, 2007), from 1 to min(N, D).

    The vectors are not centred: a direction that all share counts as one that takes much of the space.

    Args:
        vectors: (N, D)
    """
    values = np.linalg.svd(vectors, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_cosine(vectors: Array) -> float:
    """Return the mean cosine of two different rows, which is far above 0 in an anisotropic space (Ethayarajh, 2019).

    All pairs are averaged; a sample of random pairs estimates this number.

    Args:
        vectors: (N, D) unit vectors, N at least 2.
    """
    count = len(vectors)
    together = float((vectors.sum(axis=0) ** 2).sum())  # of all pairs, those of a row with itself included
    return (together - float((vectors**2).sum())) / (count * (count - 1))


def unit(vectors: Array) -> Array:
    """Return the rows of ``vectors`` (N, D) brought to unit length; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
