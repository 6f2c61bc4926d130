"""The most memory that a step takes, by the size of its pool, with GradCache and without.

    python experiments/speed/memory.py 64 1024

Each pool is a process of its own, and the figure is the highest resident set of the process.
"""

import argparse
import resource
import subprocess
import sys

import torch
from texts import KINDS, read_texts
from training import TEMPERATURE, make_embedder

from embedllm.adapter import AdapterSpec
from embedllm.engine import ContrastiveStep, Pool
from embedllm.losses import InfoNCE


def main() -> None:
    """Print one line a pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pools", type=int, nargs="+", help="pairs")
    parser.add_argument("--model", default="embedded:smollm2_135m")
    parser.add_argument("--texts", choices=KINDS, default="titles")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--keep-graphs", action="store_true", help="without GradCache")
    options = parser.parse_args()
    if len(options.pools) > 1:
        shared = [argument for argument in sys.argv[1:] if not argument.isdigit()]
        for pool in options.pools:
            subprocess.run([sys.executable, __file__, str(pool), *shared], check=True)
        return
    (pool,) = options.pools
    print(f"pool of {pool}: {peak_memory(options, pool):.2f} GB", flush=True)


def peak_memory(options: argparse.Namespace, pairs: int) -> float:
    """Return the highest resident set of this process after a step, in GB."""
    adapter = AdapterSpec(kind="lora", r=64, alpha=64, dropout=0.05)
    embedder = make_embedder(options, adapter).train()
    dtype = getattr(torch, options.dtype)
    step = ContrastiveStep(
        embedder,
        InfoNCE(TEMPERATURE),
        micro_batch_tokens=768,
        grad_cache=not options.keep_graphs,
        autocast=None if dtype == torch.float32 else dtype,
    )
    rows = embedder.tokenize(read_texts(options.texts, 2 * pairs))
    step(Pool(rows[:pairs], rows[pairs:]), key=(0, 0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
