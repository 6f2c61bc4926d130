"""What a grid of 5 heads x 3 prompts costs, in forward passes: ``python experiments/speed/scan.py``.

One side encodes the texts once with each prompt. The other side does what a scan does: it fills an empty cache of
vectors for all five heads and reads each head's from there. Both have the weights in memory. The sides take turns, and
the ratio is that of the medians. At the end each vector of the scan is compared with that of its embedder alone.
"""

import argparse
import csv
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from embedllm import Embedder, ModelSpec
from embedllm.config import config_dir
from embedllm.data.embedded_files import embedded_data_path
from embedllm.pooling import EosPooling, LastTokenPooling, MaxPooling, MeanPooling, WeightedMeanPooling
from embedllm.scan.cached_encoder import CachedEncoder
from embedllm.scan.variants import Variant, draw_up_variants
from embedllm.scan.vector_cache import VectorCache

HEADS = (MeanPooling, LastTokenPooling, EosPooling, WeightedMeanPooling, MaxPooling)
PROMPTS = ("none", "cluster", "ccw")


def main() -> None:
    """Print seconds of both sides, their ratio, and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded:smollm2_135m")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = definitions(options.texts)
    spec = ModelSpec(options.model, max_length=128)
    plans = [draw_up_variants(spec, [Variant(partial(head)) for head in HEADS], template=template(p)) for p in PROMPTS]
    embedders = [Embedder.from_blueprint(of_prompt[0]).to_accelerator() for of_prompt in plans]
    for embedder in embedders:
        embedder.encode(texts[:32])  # warm up

    def passes() -> None:
        for embedder in embedders:
            embedder.encode(texts)

    def grid(folder: Path) -> list[np.ndarray]:
        cache = VectorCache(folder)
        return [
            CachedEncoder(plan, cache, of_prompt, embedder=embedder).encode(texts)
            for of_prompt, embedder in zip(plans, embedders, strict=True)
            for plan in of_prompt
        ]

    seconds: dict[str, list[float]] = {"3 passes": [], "grid of 15": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            passes()
            middle = time.perf_counter()
            found = grid(Path(folder))
            end = time.perf_counter()
        seconds["3 passes"].append(middle - begin)
        seconds["grid of 15"].append(end - middle)
        print(f"3 passes {middle - begin:.2f} s, grid of 15 {end - middle:.2f} s", flush=True)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    print(f"ratio of medians: {medians['grid of 15'] / medians['3 passes']:.3f}")
    alone = [Embedder.from_blueprint(plan).to_accelerator().encode(texts) for of_prompt in plans for plan in of_prompt]
    largest = max(float(np.abs(one - other).max()) for one, other in zip(found, alone, strict=True))
    print(f"largest difference of an entry of a vector: {largest:.1e}")


def definitions(count: int) -> list[str]:
    """Return the first texts of the embedded task."""
    with embedded_data_path("wordnet_definitions").open(encoding="utf-8", newline="") as file:
        return [row["text"] for _, row in zip(range(count), csv.DictReader(file), strict=False)]


def template(prompt: str) -> str:
    """Return the template of an option of conf/prompt."""
    text = (config_dir() / "prompt" / f"{prompt}.yaml").read_text(encoding="utf-8")
    return str(yaml.safe_load(text)["template"])


if __name__ == "__main__":
    main()
