import numpy as np
import pytest
import sklearn.cluster  # noqa: F401  (loads the OpenMP library whose threads are at stake)
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from embedllm.eval.threads import LiftingEncoder, one_thread


def threads():
    return {library["filepath"]: library["num_threads"] for library in threadpool_info()}


@pytest.fixture(autouse=True)
def three_threads():
    torch.get_num_threads()  # sets up torch's own pool, so that nothing below is the first to do it
    with threadpool_limits(3):
        yield


def test_libraries_have_one_thread_and_the_encoder_all():
    seen = []

    class Encoder:
        def encode(self, texts):
            seen.append((threads(), torch.get_num_threads()))
            return np.zeros((len(texts), 1), np.float32)

    before = threads(), torch.get_num_threads()
    with one_thread() as lift:
        LiftingEncoder(Encoder(), lift).encode(["a"])
        assert set(threads().values()) == {1}
    assert seen == [before]
    assert (threads(), torch.get_num_threads()) == before
    assert 3 in before[0].values()


def test_threads_come_back_after_an_error():
    before = threads()
    with pytest.raises(KeyError), one_thread(), one_thread():
        raise KeyError
    assert threads() == before


def test_the_limit_holds_again_after_an_encoder_that_failed():
    class Encoder:
        def encode(self, texts):
            raise KeyError

    with one_thread() as lift:
        with pytest.raises(KeyError):
            LiftingEncoder(Encoder(), lift).encode(["a"])
        assert set(threads().values()) == {1}
