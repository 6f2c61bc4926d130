"""A few steps of a small training, in one process or as one of several; what the tests of processes start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from embedllm.adapter import AdapterSpec
from embedllm.embedder import Embedder, ModelSpec
from embedllm.engine import ContrastiveStep, Pool
from embedllm.losses import InfoNCE
from embedllm.module import EmbedderModule, warmup_schedule
from embedllm.processes import Processes

WORDS = [
    "the",
    "bank",
    "raised",
    "its",
    "rate",
    "and",
    "a",
    "dog",
    "slept",
    "while",
    "rivers",
    "ran",
    "over",
    "hills",
    "of",
    "stone",
]
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.5},
    "grad_cache": {"dropout": 0.5, "grad_cache": True},
    "one text a micro-batch": {"dropout": 0.5, "tokens": 1},
    "labels": {"labels": torch.tensor([0, 1, 0, 2, 2, 3, 4])},
    "equal texts": {"texts": torch.tensor([0, 1, 2, 0, 4, 5, 6, *range(7, 12), 7, 13, 14, 15, 16, 0, 18])},
    "a learned temperature": {"learn": True, "dropout": 0.5},
    "accumulated": {"pools": 2, "dropout": 0.5},
    "fewer texts than processes": {"pairs": 1, "hard": 0},
}


def words(count: int, seed: int) -> str:
    return " ".join(WORDS[(seed * 7 + i * 3) % len(WORDS)] for i in range(count))


def make_pool(embedder: Embedder, number: int, pairs: int, hard: int, **ids: Tensor) -> Pool:
    """Seven pairs with five hard negatives, of very different lengths."""
    count = 2 * pairs + hard
    rows = embedder.tokenize([words(1 + (5 * i + 3 * number) % 11, i + number) for i in range(count)])
    return Pool(rows[:pairs], rows[pairs : 2 * pairs], rows[2 * pairs :], **ids)


def train(path: Path, processes: Processes, scenario: dict[str, Any], steps: int = 3) -> dict[str, Any]:
    """Return losses, gradient of the first step, final weights and tokens."""
    spec = ModelSpec(str(path), dtype="float32", max_length=64)
    adapter = AdapterSpec(kind="lora", r=4, dropout=scenario.get("dropout", 0.0))
    embedder = Embedder.from_pretrained(spec, template='This "{text}" is:', adapter=adapter).train()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name:  # it starts at zero, where half of the gradients vanish
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    step = ContrastiveStep(
        embedder,
        InfoNCE(0.1, learn_temperature=scenario.get("learn")),
        micro_batch_tokens=scenario.get("tokens", 60),
        grad_cache=scenario.get("grad_cache", False),
        processes=processes,
    )
    module = EmbedderModule(step, torch.optim.SGD, warmup_schedule("constant", 0, steps), None, 0)
    optimizer = torch.optim.SGD(module.trainable().values(), lr=0.05)
    found: dict[str, Any] = {"losses": []}
    ids = {name: scenario[name] for name in ("labels", "texts") if name in scenario}
    for number in range(steps):
        optimizer.zero_grad()
        count = scenario.get("pools", 1)
        for i in range(count):
            pool = make_pool(embedder, number + i, scenario.get("pairs", 7), scenario.get("hard", 5), **ids)
            report = step(pool, key=(0, number, i), scale=1 / count)
            found["losses"].append(report.loss)
        step.share_gradients()
        if number == 0:
            found["gradients"] = {name: p.grad.clone() for name, p in module.trainable().items()}
            found["tokens"] = report.tokens, report.padded_tokens
        optimizer.step()
    found["weights"] = {name: parameter.detach().clone() for name, parameter in module.trainable().items()}
    return found


def work(rank: int, count: int, path: Path, folder: Path, names: Sequence[str]) -> None:
    """Be one of ``count`` processes and leave what was found in ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=count)
    found = {name: train(path, Processes(rank, count), SCENARIOS[name]) for name in names}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
