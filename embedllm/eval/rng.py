"""Keeps the global random states: mteb reseeds them when it is imported, and again for every task."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore the states of ``random``, numpy, torch and CUDA on leaving, an exception included."""
    import torch

    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        torch.cuda.set_rng_state_all(cuda_states)
