"""What a training is, in one line."""

from itertools import chain

from torch import nn

from embedllm.datamodule import StepBatch
from embedllm.engine import Pool
from embedllm.memory import expected_bytes
from embedllm.module import EmbedderModule


def start_line(module: EmbedderModule, batch: StepBatch) -> str:
    """Return pool, negatives, processes, micro-batches, tokens, trained parameters and the memory they will take.

    Args:
        module: to be trained.
        batch: the first one; others differ in tokens.
    """
    step, pool = module.step, batch.pools[0]
    pairs, count = len(pool.anchors), negatives_per_anchor(step.loss, pool)
    pools = [[*pool.anchors, *pool.positives, *pool.negatives] for pool in batch.pools]
    sizes = step.sizes(pools[0])
    micro_batches = sum(len(part) for rows in pools for parts in step.sizes(rows) for part in parts)
    trained = sum(parameter.numel() for parameter in module.trainable().values())
    share = trained / sum(parameter.numel() for parameter in module.parameters())
    tokens = sum(len(row) for rows in pools for row in rows)
    return (
        f"pool of {pairs} pairs, up to {count} negatives an anchor, {_some(len(sizes), 'process', 'es')}, "
        f"{_some(micro_batches, 'micro-batch', 'es')} of at most {max(chain(*chain(*sizes))):,} tokens, "
        f"{tokens:,} tokens a step, {trained:,} parameters trained ({100 * share:.1f} %), "
        f"about {expected_bytes(step, sizes[0]) / 1e9:.1f} GB for model and training"
    )


def negatives_per_anchor(loss: nn.Module, pool: Pool) -> int:
    """Return how many vectors a positive is ranked against at most; a loss may say so itself."""
    pairs, hard = len(pool.anchors), len(pool.negatives)
    count: int = getattr(loss, "negatives_per_anchor", lambda pairs, hard: pairs - 1 + hard)(pairs, hard)
    return count


def _some(count: int, noun: str, ending: str) -> str:
    return f"{count} {noun}{'' if count == 1 else ending}"
