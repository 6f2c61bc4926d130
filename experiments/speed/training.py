"""Pairs a second of a training step, against sentence-transformers and the paper's way.

    python experiments/speed/training.py --texts titles --pool 64

The sides take turns on the same texts, and a ratio is one of medians. Before a time counts, all sides that have the
same objective must have the same loss at the first step, and all the same number of tokens.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig
from rivals import PapersWay, SentenceTransformers
from texts import KINDS, read_texts

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.backbone import resolve_model
from embedllm.engine import ContrastiveStep, Pool
from embedllm.export import export
from embedllm.losses import InfoNCE
from embedllm.pooling import LastTokenPooling

TEMPLATE = 'This sentence : "{text}" belongs to the following cluster:'
TEMPERATURE = 0.1
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

Step = Callable[[Sequence[str], Sequence[str]], tuple[float, int]]
optimizer = partial(torch.optim.AdamW, lr=1e-4)


def main() -> None:
    """Print one line a side, and write them with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded:smollm2_135m")
    parser.add_argument("--texts", choices=KINDS, default="titles")
    parser.add_argument("--pool", type=int, default=64, help="pairs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--micro-batch-tokens", type=int, help="of embedllm and the cached loss")
    parser.add_argument("--sides", nargs="+", help="embedllm, top6, mnrl, cached, paper; default: all")
    parser.add_argument("--json", type=Path, help="add the figures to a file")
    options = parser.parse_args()
    texts = read_texts(options.texts, 2 * options.pool)
    anchors, positives = texts[: options.pool], texts[options.pool :]
    with tempfile.TemporaryDirectory() as folder:
        sides = build(options, Path(folder))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    losses, tokens = {}, {}
    for number in range(options.rounds + 1):
        for name, step in sides.items():
            begin = time.perf_counter()
            loss, found = step(anchors, positives)
            synchronize()
            if number == 0:  # warms up
                losses[name], tokens[name] = loss, found
            else:
                seconds[name].append(time.perf_counter() - begin)
    check(losses, tokens)
    report(options, sides, seconds, tokens)


def build(options: argparse.Namespace, folder: Path) -> dict[str, Step]:
    """Return what makes a step, by name."""
    dtype = getattr(torch, options.dtype)
    adapter = AdapterSpec(kind="lora", r=options.rank, alpha=options.rank, dropout=0.05)
    lora = partial(
        LoraConfig,
        r=options.rank,
        lora_alpha=options.rank,
        lora_dropout=0.05,
        target_modules=MODULES,
    )
    embedder = make_embedder(options, adapter)
    budget = options.micro_batch_tokens or (768 if embedder.device.type == "cpu" else 16_384)
    plain = make_embedder(options, None)
    plain.save(folder / "model")
    export(folder / "model", folder / "export")
    rival = (folder / "export", lora(task_type="FEATURE_EXTRACTION"), optimizer, TEMPERATURE, dtype)
    makers: dict[str, Callable[[], Step]] = {
        "embedllm": lambda: Ours(embedder, budget, dtype),
        "top6": lambda: Ours(make_embedder(options, AdapterSpec("lora", adapter.r, adapter.r, 0.05, 6)), budget, dtype),
        "mnrl": lambda: SentenceTransformers(*rival, None),
        "cached": lambda: SentenceTransformers(*rival, budget),
        "paper": lambda: PapersWay(
            plain, Path(resolve_model(options.model)), lora(task_type="CAUSAL_LM"), optimizer, TEMPERATURE, dtype
        ),
    }
    return {name: makers[name]() for name in options.sides or makers}


def make_embedder(options: argparse.Namespace, adapter: AdapterSpec | None) -> Embedder:
    """Return the model with its prompt."""
    spec = ModelSpec(options.model, dtype=options.dtype, max_length=512)
    embedder = Embedder.from_pretrained(spec, template=TEMPLATE, head=LastTokenPooling, adapter=adapter)
    return embedder.to_accelerator()


class Ours:
    """A step of this package."""

    def __init__(self, embedder: Embedder, budget: int, dtype: torch.dtype) -> None:
        self.embedder, self.number = embedder.train(), 0
        autocast = None if dtype == torch.float32 else dtype
        self.step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=budget, autocast=autocast)
        self.optimizer = optimizer(p for p in embedder.parameters() if p.requires_grad)

    def __call__(self, anchors: Sequence[str], positives: Sequence[str]) -> tuple[float, int]:
        """Make a step; return its loss and the tokens of its texts."""
        self.optimizer.zero_grad()
        pool = Pool(self.embedder.tokenize(anchors), self.embedder.tokenize(positives))
        report = self.step(pool, key=(0, self.number))
        self.number += 1
        self.optimizer.step()
        return report.loss, report.tokens


def check(losses: dict[str, float], tokens: dict[str, int]) -> None:
    """Raise if two sides do not do the same."""
    print(", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()), "at the first step")
    same = [loss for name, loss in losses.items() if name != "paper"]
    assert max(same) - min(same) < 0.02 * max(same), "the losses differ"
    assert len(set(tokens.values())) == 1, f"the tokens differ: {tokens}"


def report(
    options: argparse.Namespace, sides: dict[str, Step], seconds: dict[str, list[float]], tokens: dict[str, int]
) -> None:
    """Print the medians, and what share of the peak of the hardware the floating-point operations of a step are."""
    peak = matmul_peak(getattr(torch, options.dtype))
    print(f"peak of a square matrix product: {peak / 1e9:.0f} GFLOP/s")
    first = next(iter(sides))
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        row = {
            "texts": options.texts,
            "pool": options.pool,
            "side": name,
            "seconds": median,
            "pairs_per_second": options.pool / median,
            "tokens_per_second": tokens[name] / median,
            "ratio": median / statistics.median(seconds[first]),
            "spread": [min(times), max(times)],
        }
        step = sides[name]
        if isinstance(step, Ours):
            row["utilisation"] = train_flops(step, options) * tokens[name] / median / peak
        rows.append(row)
        print(json.dumps(row))
    if options.json:
        with options.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"peak": peak, **row}) + "\n" for row in rows)


def train_flops(step: Ours, options: argparse.Namespace) -> float:
    """Return the operations of a training step for one token, attention left out: 2N (1 + m / L) + 3 F_LoRA."""
    backbone = step.embedder.backbone
    config = backbone.config
    adapted = {name: p for name, p in backbone.named_parameters() if "lora_" in name}
    weights = sum(p.numel() for name, p in backbone.named_parameters() if p.dim() == 2 and "layers." in name)
    weights -= sum(p.numel() for p in adapted.values())
    share = len({name.split("layers.")[1].split(".")[0] for name in adapted}) / config.num_hidden_layers
    return 2 * weights * (1 + share) + 3 * 2 * sum(p.numel() for p in adapted.values())


def matmul_peak(dtype: torch.dtype) -> float:
    """Return the most operations a second of a product of two square matrices."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, repeats = (8192, 10) if device == "cuda" else (2048, 3)
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(repeats):
            a @ b
        synchronize()
        best = max(best, 2 * size**3 * repeats / (time.perf_counter() - begin))
    return best


def synchronize() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
