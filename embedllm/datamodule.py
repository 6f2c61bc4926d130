"""Pools of training pairs, each a pure function of (seed, step): the same after a resume, and for any worker."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from embedllm.data.augment import Augmenter, keyed_rng
from embedllm.data.tables import Pair, PairTable
from embedllm.engine import Pool
from embedllm.errors import InputError


class StepBatch:
    """What one optimizer step trains on. A plain class: Lightning walks through dataclasses, id by id.

    Args:
        pools: tokenized; more than one only if gradients are accumulated.
        pairs: the same as texts, for when something goes wrong.
    """

    def __init__(self, pools: list[Pool], pairs: list[list[Pair]]) -> None:
        self.pools = pools
        self.pairs = pairs


class PairPools(Dataset[StepBatch]):
    """Item ``step`` is the batch of optimizer step ``step``.

    An epoch visits the pairs in an order that (seed, epoch) decides, and leaves out what does not fill a pool.

    Args:
        table: the pairs.
        tokenize: texts to ids, prompt included.
        batch_size: pairs that compete in one loss.
        accumulate: pools of one optimizer step; they do not compete with each other.
        augment: makes the positive of a pair whose two texts are equal; None leaves them equal.
        seed: of the run.
        max_steps: length of the data set.

    Raises:
        InputError: if there are fewer pairs than a pool holds.
    """

    def __init__(
        self,
        table: PairTable,
        tokenize: Callable[[Sequence[str]], list[list[int]]],
        *,
        batch_size: int,
        accumulate: int,
        augment: Augmenter | None,
        seed: int,
        max_steps: int,
    ) -> None:
        if len(table) < batch_size:
            raise InputError(
                f"trainer.batch_size: {batch_size} pairs make a pool, but data.path has {len(table)} pairs"
            )
        self.table, self.tokenize, self.augment = table, tokenize, augment
        self.batch_size, self.accumulate, self.seed, self.max_steps = batch_size, accumulate, seed, max_steps
        self.classes = {label: i for i, label in enumerate(sorted({str(pair.label) for pair in table.pairs}))}
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return self.max_steps

    def __getitem__(self, step: int) -> StepBatch:
        pairs = [self.pairs(step * self.accumulate + i) for i in range(self.accumulate)]
        return StepBatch([self._tokenized(pool) for pool in pairs], pairs)

    def pairs(self, pool: int) -> list[Pair]:
        """Return the pairs of the ``pool``-th pool of the run."""
        epoch, place = divmod(pool, len(self.table) // self.batch_size)
        indices = self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return [self._pair(int(index), epoch) for index in indices]

    def _pair(self, index: int, epoch: int) -> Pair:
        pair = self.table.draw(index, seed=self.seed, epoch=epoch)
        if self.augment is None or pair.anchor != pair.positive:
            return pair
        return pair._replace(positive=self.augment(pair.positive, keyed_rng(self.seed, epoch, index, "augment")))

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.table))

    def _tokenized(self, pairs: Sequence[Pair]) -> Pool:
        negatives = [text for pair in pairs for text in pair.negatives]
        texts = [*(pair.anchor for pair in pairs), *(pair.positive for pair in pairs), *negatives]
        rows = self.tokenize(texts)
        count = len(pairs)
        labels = None
        if pairs[0].label is not None:
            labels = torch.tensor([self.classes[str(pair.label)] for pair in pairs])
        first = {text: number for number, text in reversed(list(enumerate(texts)))}
        ids = torch.tensor([first[text] for text in texts])
        return Pool(rows[:count], rows[count : 2 * count], rows[2 * count :], labels, ids)


class RemainingSteps(Sampler[int]):
    """Steps from ``first()`` on; its length is that of the whole run, as Lightning counts the steps before as seen."""

    def __init__(self, max_steps: int, first: Callable[[], int]) -> None:
        self.max_steps, self.first = max_steps, first

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first(), self.max_steps))

    def __len__(self) -> int:
        return self.max_steps


class PairDataModule(LightningDataModule):
    """Feed :class:`PairPools` to a Lightning trainer, from the step that it has reached."""

    def __init__(self, pools: PairPools) -> None:
        super().__init__()
        self.pools = pools

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """Return one batch for each optimizer step that is left."""
        steps = RemainingSteps(len(self.pools), lambda: self.trainer.global_step if self.trainer else 0)
        return DataLoader(self.pools, batch_size=None, sampler=steps)
