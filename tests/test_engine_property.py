"""Whatever is combined, the engine gives the loss and the gradients of one process and one batch by hand."""

import copy
import itertools
import random
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import Formula, plain_loss, plain_vectors
from torch import Tensor, nn

from embedllm import pooling
from embedllm.adapter import AdapterSpec
from embedllm.embedder import Embedder, ModelSpec
from embedllm.engine import ContrastiveStep, Pool
from embedllm.losses import AllPairsInfoNCE, InfoNCE, Matryoshka
from embedllm.processes import Processes

TEXTS = [
    ("a man is driving a car", "someone drives", ["a dog", "the rate of the bank", "rain"]),
    ("rain", "it rained all day long in town", []),
    ("the bank raised its rate " * 5, "rates go up", ["a man is driving a car"]),
    ("a dog", "an animal", []),
    ("rain", "water from the sky", ["nobody knows that", "someone drives"]),
    ("who knows", "nobody", []),
    ("rivers and hills", "rates go up", ["the country " * 7, "stone", "a hill", "and a river"]),
]
"""Anchor, positive and hard negatives; some stand twice."""
LABELS = [0, 1, 0, 2, 1, 3, 4]
CHOICES: dict[str, Sequence[Any]] = {
    "loss": ["one way", "symmetric", "gte", "qwen3", "matryoshka", "learned temperature", "margin"],
    "grad_cache": [False, True],
    "processes": [1, 2, 3],
    "mask": ["none", "labels", "texts", "similar", "labels and texts"],
    "hard": [False, True],
    "head": ["Mean", "WeightedMean", "LastToken", "Eos", "Max", "Concat", "Attention"],
    "attention": ["causal", "bidirectional"],
    "prompt": [
        ("{text}", "all"),
        ('This "{text}" is:', "all"),
        ('This "{text}" is:', "text"),
        ("Is {text} so", "suffix"),
    ],
    "tokens": [1, 40, 10_000],
    "workers": [1, 2],
}
Case = dict[str, Any]


def possible(case: Case) -> bool:
    """The head of an EOS token reads nothing but that token, which is no part of the text."""
    return not (case["head"] == "Eos" and case["prompt"][1] == "text")


def covering() -> list[Case]:
    """Return cases in which each two choices that are possible together meet, the same cases every time."""
    names, rng = list(CHOICES), random.Random(0)
    pairs = {
        (one, x, other, y)
        for one, other in itertools.combinations(names, 2)
        for x, y in itertools.product(range(len(CHOICES[one])), range(len(CHOICES[other])))
    }
    cases = []
    for _ in range(2000):
        best: tuple[int, Case, set[Any]] = (0, {}, set())
        for _ in range(40):
            drawn = {name: rng.randrange(len(CHOICES[name])) for name in names}
            case = {name: CHOICES[name][i] for name, i in drawn.items()}
            new = {(a, drawn[a], b, drawn[b]) for a, b in itertools.combinations(names, 2)} & pairs
            if possible(case) and len(new) > best[0]:
                best = len(new), case, new
        if best[0]:
            cases.append(best[1])
            pairs -= best[2]
    impossible = {
        pair
        for pair in pairs
        if not possible(
            {"head": "Mean", "prompt": CHOICES["prompt"][0]} | {pair[i]: CHOICES[pair[i]][pair[i + 1]] for i in (0, 2)}
        )
    }
    assert pairs == impossible
    return cases


@pytest.mark.thinned(3)
@pytest.mark.parametrize("case", covering(), ids=lambda case: "-".join(map(str, case.values())).replace(" ", "_"))
def test_the_engine_gives_what_one_batch_gives_by_hand(
    tiny_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedllm.engine.count_workers", lambda *_: case["workers"])
    embedder = make(tiny_path, case["head"], case["attention"], case["prompt"])
    batch = make_pool(embedder, case["mask"], case["hard"])
    loss, formula = make_loss(case["loss"], 0.05 if case["mask"] == "similar" else None)
    rows = [*batch.anchors, *batch.positives, *batch.negatives]
    expected = plain_loss(plain_vectors(embedder, rows, f"{case['head']}Pooling", case["prompt"][1]), batch, formula)
    expected.backward()
    gradients = collect(embedder, loss)
    for found, ours in in_processes(embedder, loss, batch, case):
        assert found == pytest.approx(float(expected.detach()), abs=1e-12)
        assert ours.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert (ours[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-12, name
    assert any(gradient.abs().sum() > 0 for gradient in gradients.values())


@lru_cache(maxsize=1000)
def make(path: Path, head: str, attention: str, prompt: tuple[str, str]) -> Embedder:
    """A tiny model in float64, without dropout."""
    spec = ModelSpec(str(path), dtype="float32", attention=attention, max_length=64)

    def build(size: int) -> pooling.PoolingHead:
        kind: type[pooling.PoolingHead] = getattr(pooling, f"{head}Pooling")
        return kind(size, pool_over=prompt[1])

    adapter = AdapterSpec(kind="lora", r=4, dropout=0.0)
    embedder = Embedder.from_pretrained(spec, template=prompt[0], head=build, adapter=adapter).double().train()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name or "query" in name:  # they start at zero, where half of the gradients vanish
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.1
    for module in list(embedder.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == "LlamaRMSNorm":  # it computes in float32, whatever it is given
                norm = nn.RMSNorm(child.weight.shape, child.variance_epsilon, dtype=torch.float64)
                norm.weight = child.weight
                setattr(module, name, norm)
    return embedder


def make_pool(embedder: Embedder, mask: str, hard: bool) -> Pool:
    negatives = [text for _, _, found in TEXTS for text in found] if hard else []
    texts = [*(anchor for anchor, _, _ in TEXTS), *(positive for _, positive, _ in TEXTS), *negatives]
    rows, count = embedder.tokenize(texts), len(TEXTS)
    return Pool(
        rows[:count],
        rows[count : 2 * count],
        rows[2 * count :],
        torch.tensor(LABELS) if "labels" in mask else None,
        torch.tensor([texts.index(text) for text in texts]) if "texts" in mask else None,
    )


def make_loss(name: str, bound: float | None) -> tuple[nn.Module, Formula]:
    """Return a loss and its formula."""
    if name == "one way":
        return InfoNCE(0.1, False, None, None, bound), Formula(0.1, false_negative_margin=bound)
    if name == "symmetric":
        return InfoNCE(0.2, True, None, None, bound), Formula(0.2, True, false_negative_margin=bound)
    if name in ("gte", "qwen3"):
        formula = Formula(0.1, all_pairs=True, reverse=name == "gte", false_negative_margin=bound)
        return AllPairsInfoNCE(0.1, name == "gte", None, None, bound), formula
    if name == "matryoshka":
        loss = Matryoshka(InfoNCE(0.1, True, None, None, bound), [4, 16])
        return loss, Formula(0.1, True, widths=(4, 16), false_negative_margin=bound)
    if name == "margin":
        return InfoNCE(0.1, True, None, 0.2, bound), Formula(0.1, True, margin=0.2, false_negative_margin=bound)
    learned = InfoNCE(0.1, True, True, None, bound).double()
    assert learned.temperature.log is not None
    return learned, Formula(learned.temperature.log.exp(), True, false_negative_margin=bound)


def collect(embedder: Embedder, loss: nn.Module) -> dict[str, Tensor]:
    """Return the gradients, and clear them."""
    named = [*embedder.named_parameters(), *loss.named_parameters(prefix="loss")]
    found = {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}
    embedder.zero_grad()
    loss.zero_grad()
    return found


class Threads(Processes):
    """Threads that stand for processes."""

    def __init__(self, rank: int, count: int, barrier: threading.Barrier, table: dict[str, Any]) -> None:
        super().__init__(rank, count)
        self.barrier, self.table, self.calls = barrier, table, 0

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all."""
        self.calls += 1
        self.table[f"{self.calls}/{self.rank}"] = value
        self.barrier.wait(timeout=60)
        return [self.table[f"{self.calls}/{rank}"] for rank in range(self.count)]

    def highest(self, value: int) -> int:
        return max(self.exchange(value))

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        parts = self.exchange(rows.clone())
        assert [len(part) for part in parts] == list(counts)
        return torch.cat(parts)

    def _sum(self, parameters: Sequence[nn.Parameter]) -> None:
        everyone = self.exchange([None if p.grad is None else p.grad.clone() for p in parameters])
        for parameter, *gradients in zip(parameters, *everyone, strict=True):
            parameter.grad = sum(gradient for gradient in gradients if gradient is not None)


def in_processes(embedder: Embedder, loss: nn.Module, batch: Pool, case: Case) -> list[tuple[float, dict[str, Tensor]]]:
    """Return loss and gradients as each process has them at the end."""
    count, found, barrier = case["processes"], {}, threading.Barrier(case["processes"])
    table: dict[str, Any] = {}

    def work(rank: int, embedder: Embedder, loss: nn.Module) -> None:
        processes = Threads(rank, count, barrier, table) if count > 1 else Processes()
        options = {"micro_batch_tokens": case["tokens"], "grad_cache": case["grad_cache"], "processes": processes}
        step = ContrastiveStep(embedder, loss, **options)
        value = step(batch, key=(0, 0)).loss
        step.share_gradients()
        found[rank] = value, collect(embedder, loss)

    copies = [(embedder, loss), *(copy.deepcopy((embedder, loss)) for _ in range(count - 1))]
    threads = [threading.Thread(target=work, args=(rank, *copied)) for rank, copied in enumerate(copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(count)]
