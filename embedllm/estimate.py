"""What a training will take: weights, tokens, memory and time, from a few timed steps. Nothing is written."""

import time
from dataclasses import dataclass

from embedllm.datamodule import PairPools
from embedllm.module import EmbedderModule
from embedllm.start_line import negatives_per_anchor
from embedllm.training import peak_memory_gb

TIMED_STEPS = 2


@dataclass(frozen=True)
class Estimate:
    """What a training will take on one device of this machine."""

    trainable: int
    parameters: int
    negatives: int
    """Pairs that an anchor's positive is ranked against."""
    tokens_per_step: float
    seconds_per_step: float
    steps: int
    memory_gb: float

    def __str__(self) -> str:
        """Return the estimate in four lines."""
        share = 100 * self.trainable / self.parameters
        pool = f"up to {self.negatives} negatives an anchor, {self.tokens_per_step:,.0f} tokens a step"
        minutes = self.steps * self.seconds_per_step / 60
        optimizer = self.trainable * 8 / 1e9  # AdamW keeps two float32 values a weight
        return (
            f"trained     {self.trainable:,} of {self.parameters:,} parameters ({share:.1f} %)\n"
            f"pool        {pool}\n"
            f"time        {self.seconds_per_step:.1f} s a step, {minutes:.1f} minutes for {self.steps} steps\n"
            f"memory      {self.memory_gb:.1f} GB at the peak, and {optimizer:.2f} GB for the optimizer"
        )


def estimate(module: EmbedderModule, pools: PairPools) -> Estimate:
    """Run a warm-up step and :data:`TIMED_STEPS` timed ones, without the optimizer."""
    tokens, seconds, negatives = 0, 0.0, 0
    for number in range(TIMED_STEPS + 1):
        batch = pools[number % len(pools)]
        begin = time.perf_counter()
        reports = [module.step(pool, key=(0, number, i)) for i, pool in enumerate(batch.pools)]
        module.zero_grad()
        negatives = max(negatives, *(negatives_per_anchor(module.step.loss, pool) for pool in batch.pools))
        if number > 0:
            seconds += time.perf_counter() - begin
            tokens += sum(report.tokens for report in reports)
    parameters = list(module.parameters())
    return Estimate(
        trainable=sum(parameter.numel() for parameter in module.trainable().values()),
        parameters=sum(parameter.numel() for parameter in parameters),
        negatives=negatives,
        tokens_per_step=tokens / TIMED_STEPS,
        seconds_per_step=seconds / TIMED_STEPS,
        steps=len(pools),
        memory_gb=peak_memory_gb(),
    )
