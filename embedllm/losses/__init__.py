"""Contrastive losses: vectors in, one scalar out. Each has a YAML file in ``conf/loss``.

A loss knows nothing of texts, tokenizers or processes, so each one can be checked against a closed form. It is called
as ``loss(anchors, positives, labels=..., negatives=..., texts=...)``; :class:`InfoNCE` says what these are.
"""

from embedllm.losses.infonce import AllPairsInfoNCE, InfoNCE
from embedllm.losses.matryoshka import Matryoshka
from embedllm.losses.temperature import Temperature

__all__ = ["AllPairsInfoNCE", "InfoNCE", "Matryoshka", "Temperature"]
