"""Counts of words as vectors: what a model has to be better than."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

TFIDF = "tfidf"
"""What the encoder is called on the command line."""
DIMENSIONS = 100
"""Of the vectors, as in latent semantic analysis (Deerwester et al., 1990)."""

Vectors = npt.NDArray[np.float32]


class TfidfEncoder:
    """TF-IDF with scikit-learn's defaults, reduced by a truncated SVD to 100 dimensions, of unit length.

    It is fitted on the very texts that it encodes, so it is transductive: it knows which words are rare among the
    documents that it is scored on, as no other encoder here does. It sees no label.

    Vectors of two fits do not compare. A clustering encodes all its texts at once, but a similarity task encodes first
    and second sentences apart, and a classification encodes training and test texts apart: there :meth:`fit` is called
    before, with the texts of both. Without it, each call of :meth:`encode` is fitted on its own texts.
    """

    name = TFIDF

    def __init__(self) -> None:
        self._pipeline: Any = None

    def fit(self, texts: Sequence[str]) -> None:
        """Learn words, weights and dimensions; a text that occurs twice counts once.

        Raises:
            ValueError: there is no word in the texts.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer

        distinct = list(dict.fromkeys(texts))
        words = TfidfVectorizer().fit(distinct)
        size = min(DIMENSIONS, len(words.vocabulary_), len(distinct))
        with np.errstate(divide="ignore", invalid="ignore"):  # one text explains no variance
            reduced = make_pipeline(TruncatedSVD(size, random_state=0), Normalizer()).fit(words.transform(distinct))
        self._pipeline = make_pipeline(words, reduced)

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Return the vectors of ``texts``, (N, D) float32; that of a text without a known word is zero.

        Args:
            texts: N strings.
            progress: of no effect.
        """
        if self._pipeline is not None:
            return np.asarray(self._pipeline.transform(texts), dtype=np.float32)
        alone = TfidfEncoder()
        alone.fit(texts)
        return alone.encode(texts)
