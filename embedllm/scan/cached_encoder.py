"""An encoder that looks vectors up, and computes those it lacks together with those that other variants will need.

Legend: N texts, D width of a vector.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from embedllm.adapter import AdapterSpec
from embedllm.blueprint import Blueprint
from embedllm.centring import Centring, reference_texts
from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.scan.passes import Scan
from embedllm.scan.variants import check_plans
from embedllm.scan.vector_cache import VectorCache
from embedllm.scan.vector_key import depth_of, variant_key
from embedllm.storage import Parts, save_parts

Vectors = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

_TEXTS = 128  # computed and kept at a time: what an interrupt loses, and how often the bar moves
_TEXTS_OF_ACCELERATOR = 2048  # whose batches are larger
_NUMBERS = 2**26  # of all variants together at a time, 256 MB


class CachedEncoder:
    """Encode texts as the embedder of a blueprint does.

    Its weights are loaded when a text is not in the cache, and not before. Then the vectors of that text are computed
    for all variants, so that those who ask for another of them find it.

    Args:
        plan: of the embedder.
        cache: where vectors are kept; None: the user's.
        also: embedders that share model and prompt with ``plan``; it may be one of them.
        centred: subtract the mean of :func:`embedllm.centring.reference_texts` before vectors are normalised.
        embedder: has the weights that ``plan`` names, unchanged, if they are loaded already; as deep as the deepest.
        load: makes it when it is needed.

    Raises:
        ValueError: the embedders do not share model and prompt.
        InputError: what decides the vectors cannot be told, or a layer of the model depends on how many follow.
    """

    def __init__(
        self,
        plan: Blueprint,
        cache: VectorCache | None = None,
        also: Sequence[Blueprint] = (),
        *,
        centred: bool = False,
        embedder: Embedder | None = None,
        load: Callable[[Blueprint], Embedder] = lambda parts: Embedder.from_blueprint(parts).to_accelerator(),
    ) -> None:
        self.plan, self.centred = plan, centred
        self.cache = VectorCache() if cache is None else cache
        self.key = variant_key(plan)
        self.plans = {variant_key(other): other for other in (*also, plan)}
        check_plans(list(self.plans.values()))
        self.embedder, self.load = embedder, load

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Return the vectors of ``texts`` in their order, (N, D) float32, normalised if the head says so.

        Args:
            texts: N strings.
            progress: show a bar while vectors are computed.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, not one string")
        vectors = torch.from_numpy(self._raw(texts, progress))
        if self.centred:
            vectors = self.centring(vectors)
        return (normalize(vectors, dim=-1) if self.plan.head.normalize else vectors).numpy()

    @functools.cached_property
    def centring(self) -> Centring:
        """The mean of the reference texts, encoded by the same embedder."""
        return Centring.of(self._raw(reference_texts(), progress=False))

    def save(self, folder: str | Path) -> None:
        """Write what :meth:`embedllm.embedder.Embedder.save` writes; without an adapter, no weights are loaded."""
        plan, centring = self.plan, self.centring if self.centred else None
        if plan.adapter is None:
            parts = Parts(nn.Identity(), plan.prompt, plan.head, plan.spec, plan.head_config, AdapterSpec(), centring)
            save_parts(parts, Path(folder))
        else:
            embedder = Embedder.from_blueprint(plan)
            embedder.centring = centring
            embedder.save(folder)

    def _raw(self, texts: Sequence[str], progress: bool) -> Vectors:
        """Return vectors as the head gives them, and keep those that were not known."""
        unique = dict.fromkeys(texts)
        known = self.cache.get(self.key, list(unique))
        # Like lengths together: batches are cut within a chunk.
        missing = sorted((text for text in unique if text not in known), key=len, reverse=True)
        step = self._texts_at_a_time() if missing else 1
        with tqdm(total=len(missing), unit="text", desc="encode", disable=not (progress and missing)) as bar:
            for start in range(0, len(missing), step):
                chunk = missing[start : start + step]
                known |= dict(zip(chunk, self._computed(chunk), strict=True))
                bar.update(len(chunk))
        found = np.empty((len(texts), self.plan.head.output_size), dtype=np.float32)
        for row, text in enumerate(texts):
            found[row] = known[text]
        return found

    def _texts_at_a_time(self) -> int:
        """Return how many texts are computed and kept at a time."""
        texts = _TEXTS if self._scan.device.type == "cpu" else _TEXTS_OF_ACCELERATOR
        width = sum(plan.head.output_size for plan in self.plans.values())
        return max(1, min(texts, _NUMBERS // width))

    def _computed(self, texts: Sequence[str]) -> Vectors:
        """Compute and keep the vectors of all variants; return those of this one."""
        by_key = dict(zip(self.plans, self._scan.encode(texts), strict=True))
        for key, vectors in by_key.items():
            try:
                self.cache.put(key, texts, vectors)
            except InputError as error:  # the vectors are there all the same
                _warn_once(str(error))
        return by_key[self.key]

    @functools.cached_property
    def _scan(self) -> Scan:
        plans = list(self.plans.values())
        if self.embedder is None:
            layers = max(depth_of(plan.spec) for plan in plans)
            normed = any(plan.spec.final_norm for plan in plans)
            spec = replace(self.plan.spec, layers=layers, final_norm=normed)
            self.embedder = self.load(replace(self.plan, spec=spec))
        return Scan(self.embedder, plans)


@functools.cache
def _warn_once(message: str) -> None:
    log.warning("no vectors are kept: %s", message)
