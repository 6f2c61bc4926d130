"""Several processes train as one does."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from shared_training import SCENARIOS, train, work

from embedllm.engine import shares
from embedllm.processes import Processes

Found = list[dict[str, dict[str, Any]]]


@pytest.fixture(scope="module", params=[2, 3])
def found(request: pytest.FixtureRequest, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two or three processes found in each scenario."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(
        work, (request.param, tiny_path, folder, list(SCENARIOS)), nprocs=request.param, join=True
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_losses_gradients_and_weights_are_those_of_one_process(found: Found, tiny_path: Path, name: str) -> None:
    expected = train(tiny_path, Processes(), SCENARIOS[name])
    for ours in (rank[name] for rank in found):
        assert ours["losses"] == pytest.approx(expected["losses"], abs=2e-5)
        for kind in ("gradients", "weights"):
            assert ours[kind].keys() == expected[kind].keys()
            for parameter, value in expected[kind].items():
                error = float((ours[kind][parameter] - value).norm() / value.norm().clamp(min=1e-6))
                assert error < 5e-5, f"{kind} of {parameter} differ by {error:.1e} of their norm"
        assert ours["tokens"][0] == expected["tokens"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_all_processes_hold_the_same_bits(found: Found, name: str) -> None:
    first, *others = (rank[name] for rank in found)
    for other in others:
        assert other["losses"] == first["losses"]
        assert other["tokens"] == first["tokens"]
        assert all(torch.equal(other["weights"][key], value) for key, value in first["weights"].items())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shares_hold_every_text_once_and_about_as_many_tokens(count: int) -> None:
    rows = [[0] * (1 + (i * i) % 23) for i in range(31)]
    dealt = shares(rows, count)
    assert sorted(i for share in dealt for i in share) == list(range(31))
    tokens = [sum(len(rows[i]) for i in share) for share in dealt]
    assert max(tokens) - min(tokens) <= max(map(len, rows))
