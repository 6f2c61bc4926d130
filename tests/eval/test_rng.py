import random

import numpy as np
import pytest
import torch

from embedllm.eval.rng import isolated_rng


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def seed(value):
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002
    torch.manual_seed(value)


@pytest.mark.parametrize("fails", [False, True])
def test_states_are_restored_even_after_an_error(fails):
    seed(7)
    expected = draw()
    seed(7)
    with pytest.raises(RuntimeError) if fails else isolated_rng(), isolated_rng():
        seed(8)
        assert draw() != expected
        if fails:
            raise RuntimeError
    assert draw() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_state_of_the_gpu_is_restored():
    torch.cuda.manual_seed_all(7)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed_all(7)
    with isolated_rng():
        torch.cuda.manual_seed_all(8)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
