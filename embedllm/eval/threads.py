"""Keeps the numerical libraries under mteb to one thread, and gives the encoder all of them.

k-means hands its threads so little work at a time that on a busy machine they wait for each other nearly always: ten
runs over 1,024 documents took 76 s with two threads on two busy cores, and 5 s with one. The scores are equal.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import numpy.typing as npt

from embedllm.eval.encoder import TextEncoder

Lift = Callable[[], AbstractContextManager[None]]
"""Opens a stretch of code that has all threads."""


@contextmanager
def one_thread() -> Iterator[Lift]:
    """Hold all BLAS and OpenMP libraries loaded so far at one thread; yields what lifts this for a while."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    controller = ThreadpoolController()

    @contextmanager
    def lift() -> Iterator[None]:
        limit.restore_original_limits()
        try:
            yield
        finally:
            for library in controller.lib_controllers:
                library.set_num_threads(1)

    with controller.limit(limits=1) as limit:
        yield lift


class LiftingEncoder:
    """An encoder that works with all threads inside :func:`one_thread`."""

    def __init__(self, encoder: TextEncoder, lift: Lift) -> None:
        self.encoder = encoder
        self.lift = lift

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the encoder's vectors, (N, D) float32."""
        with self.lift():
            return self.encoder.encode(texts)
