"""Texts a second of ``encode``, against sentence-transformers on an export of the same model.

    python experiments/speed/encoding.py --texts sentences --count 1024

The sides take turns, the ratio is one of medians, and the vectors of both are compared.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from texts import KINDS, read_texts
from training import TEMPLATE, make_embedder, matmul_peak

from embedllm.export import export


def main() -> None:
    """Print the figures of one kind of texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded:smollm2_135m")
    parser.add_argument("--texts", choices=KINDS, default="sentences")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--copies", type=int, default=1, help="how often each text stands in the list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--json", type=Path, help="add the figures to a file")
    options = parser.parse_args()
    texts = read_texts(options.texts, options.count) * options.copies
    ours = make_embedder(options, None)
    with tempfile.TemporaryDirectory() as folder:
        ours.save(Path(folder) / "model")
        export(Path(folder) / "model", Path(folder) / "export")
        theirs = SentenceTransformer(
            str(Path(folder) / "export"),
            device=str(ours.device),
            model_kwargs={"dtype": getattr(torch, options.dtype)},
        )
    sides = {"embedllm": ours.encode, "sentence-transformers": theirs.encode}
    for encode in sides.values():
        encode(texts[:16])
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    vectors = {}
    for _ in range(options.rounds):
        for name, encode in sides.items():
            begin = time.perf_counter()
            vectors[name] = np.asarray(encode(texts), dtype=np.float32)
            seconds[name].append(time.perf_counter() - begin)
    first, second = (found / np.linalg.norm(found, axis=1, keepdims=True) for found in vectors.values())
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    tokens = sum(map(len, ours.tokenize(texts[: options.count])))
    config = ours.backbone.config
    weights = sum(p.numel() for name, p in ours.backbone.named_parameters() if p.dim() == 2 and "layers." in name)
    peak = matmul_peak(getattr(torch, options.dtype))
    row = {
        "texts": options.texts,
        "count": options.count,
        "copies": options.copies,
        "dtype": options.dtype,
        "tokens": tokens,
        "texts_per_second": {name: len(texts) / median for name, median in medians.items()},
        "spread": {name: [min(times), max(times)] for name, times in seconds.items()},
        "ratio": medians["sentence-transformers"] / medians["embedllm"],
        "utilisation": 2 * weights * tokens / medians["embedllm"] / peak,
        "peak": peak,
        "lowest_cosine": float((first * second).sum(axis=1).min()),
        "layers": config.num_hidden_layers,
        "template": TEMPLATE,
    }
    print(json.dumps(row, indent=1))
    if options.json:
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
