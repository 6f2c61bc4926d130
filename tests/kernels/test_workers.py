"""Threads that share a step: the gradients of one alone, the same every time."""

import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_engine import assert_close, gradients, make, pool

from embedllm.engine import ContrastiveStep
from embedllm.kernels.gradient_sums import accumulate, summed
from embedllm.kernels.workers import count_workers, side_by_side
from embedllm.losses import InfoNCE
from embedllm.pooling import AttentionPooling

Threads = Callable[[int], None]


@pytest.fixture
def say_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    """Let torch say that it has so many threads; those that a step then sets are taken back."""
    before = torch.get_num_threads()
    yield lambda count: monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("tokens", "threads", "count"),
    [(100, 8, 1), (1024, 1, 1), (1024, 2, 2), (1536, 4, 2), (100_000, 6, 6), (1536, 5, 1), (0, 2, 1)],
)
def test_workers_divide_the_threads(tokens: int, threads: int, count: int) -> None:
    assert count_workers(tokens, threads) == count


def test_parts_are_computed_in_the_context_of_the_caller_and_come_in_order() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    threads = torch.get_num_threads()
    with torch.no_grad():
        found = side_by_side(lambda part: (part, variable.get(), torch.is_grad_enabled()), [3, 1, 2])
    assert found == [(3, 7, False), (1, 7, False), (2, 7, False)]
    assert torch.get_num_threads() == threads


def test_an_error_of_a_part_is_raised_after_all_have_ended() -> None:
    ended = []

    def act(part: int) -> None:
        if part == 0:
            raise ValueError("part 0")
        ended.append(part)

    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="part 0"):
        side_by_side(act, [0, 1, 2])
    assert sorted(ended) == [1, 2]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("grad_cache", [False, True])
def test_gradients_are_those_of_one_thread_and_the_same_every_time(
    tiny_path: Path, grad_cache: bool, monkeypatch: pytest.MonkeyPatch, say_threads: Threads
) -> None:
    embedder = make(tiny_path, head=AttentionPooling, dropout=0.5)
    step = ContrastiveStep(embedder, InfoNCE(0.1), micro_batch_tokens=40, grad_cache=grad_cache)
    assert len(step._parts([[5] * 9] * 6, range(6))) == 1
    alone = step(pool(embedder), key=(0, 7))
    one = gradients(embedder)
    monkeypatch.setattr("embedllm.kernels.workers.LEAST", 1)
    say_threads(3)
    assert len(step._parts([[5] * 9] * 6, range(6))) == 3
    found = []
    for _ in range(2):
        assert step(pool(embedder), key=(0, 7)).loss == pytest.approx(alone.loss, rel=1e-5)
        found.append(gradients(embedder))
    assert_close(found[0], one)
    assert all(torch.equal(found[0][name], found[1][name]) for name in one)


def test_gradients_are_added_to_those_of_pools_before(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, say_threads: Threads
) -> None:
    monkeypatch.setattr("embedllm.kernels.workers.LEAST", 1)
    say_threads(2)
    embedder = make(tiny_path)
    step = ContrastiveStep(embedder, InfoNCE(0.1), micro_batch_tokens=40)
    step(pool(embedder), key=(0, 7))
    one = gradients(embedder)
    for _ in range(2):
        step(pool(embedder), key=(0, 7))
    assert_close(gradients(embedder), {name: 2 * gradient for name, gradient in one.items()})


def test_a_model_with_dropout_of_its_own_is_computed_by_one_thread(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, say_threads: Threads
) -> None:
    monkeypatch.setattr("embedllm.kernels.workers.LEAST", 1)
    say_threads(2)
    embedder = make(tiny_path)
    embedder.backbone.config.attention_dropout = 0.1
    step = ContrastiveStep(embedder, InfoNCE(0.1), micro_batch_tokens=40)
    assert len(step._parts([[5] * 9] * 6, range(6))) == 1


def test_what_two_inputs_share_is_not_added_in_place() -> None:
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    sums = summed([(a + b, torch.ones(2)), (a * 3, torch.ones(2))], [a, b, c])
    assert [None if total is None else total.tolist() for total in sums] == [[4, 4], [1, 1], None]
    accumulate([a, b, c], [sums, sums])
    assert (a.grad.tolist(), b.grad.tolist(), c.grad) == ([8, 8], [2, 2], None)  # type: ignore[union-attr]
