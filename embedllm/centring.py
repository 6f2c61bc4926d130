"""Centring: subtract the mean vector of a reference corpus from pooled vectors, before they are normalised.

Vectors of a decoder lie in a narrow cone: most of each is a direction that all share, and cosines are near 1. Taking
that direction away is the first step of "all but the top" (Mu & Viswanath, 2018). The mean is that of a fixed corpus,
not of the documents of a task: then the vector of a text depends on nothing but the text, the task is not looked at
before it is scored, and the mean can be saved with the model.
"""

import itertools
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from embedllm.data.embedded_files import embedded_data_path
from embedllm.data.formats import open_table

REFERENCE_TEXTS = 256
"""Standard error of the mean: each coordinate is known to 1/16 of its standard deviation."""


class Centring(nn.Module):
    """Subtract a fixed vector.

    Its equal in sentence-transformers is ``Dense`` with the identity as weight and ``-mean`` as bias, before
    ``Normalize``. No stock module holds a bias alone, so that takes D^2 numbers: 1.3 MB for D = 576, 67 MB for 4,096.

    Args:
        mean: (D,) what is subtracted.
    """

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())

    @classmethod
    def of(cls, vectors: npt.NDArray[np.float32]) -> Self:
        """Return the centring by the mean of ``vectors``, (N, D), not normalised."""
        return cls(torch.from_numpy(vectors.mean(axis=0, dtype=np.float64)))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return ``vectors``, (..., D), less the mean, as float32."""
        return vectors.float() - self.mean


def reference_texts(count: int = REFERENCE_TEXTS) -> list[str]:
    """Return the first ``count`` sentences of ``embedded:wikipedia_sentences``, which are in a random order."""
    path = embedded_data_path("wikipedia_sentences")
    rows = open_table(path, ["anchor"], f"data.path: {path.name!r}").rows
    return [str(row["anchor"]) for row in itertools.islice(rows, count)]
