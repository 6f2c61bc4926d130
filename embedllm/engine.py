"""The contrastive step in plain torch: texts in, gradients in ``.grad`` out.

Legend: B pairs in the pool, D width of the vectors. The pool is every pair that competes in the loss. Its texts are
sorted by length and cut into micro-batches by a budget of tokens; how they are cut costs time or memory, and changes
no gradient: dropout is keyed by text. The part of the prompt before the texts is computed once for all of them. With
``grad_cache`` (Gao et al., 2021) the micro-batches run twice, first without a graph, and memory no longer grows with B.
Several processes change no gradient either: each embeds a share of the texts, all compute the loss of the whole pool,
and each goes on with the gradient at its own vectors. On a CPU the threads of a process share its texts likewise.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from embedllm.adapter import training_casts
from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.kernels.allocator import keep_freed_memory
from embedllm.kernels.fused_norm import fuse_norms
from embedllm.kernels.gradient_sums import accumulate, summed
from embedllm.kernels.low_precision import lowered
from embedllm.kernels.row_dropout import key_dropout, keyed_by, text_keys
from embedllm.kernels.shared_prefix import Prefix
from embedllm.kernels.short_attention import short_attention
from embedllm.kernels.workers import count_workers, side_by_side
from embedllm.processes import Processes

Rows = Sequence[Sequence[int]]
"""Token ids of texts, in their prompt."""

_PREFIX = -1  # the place in a pool of what its texts begin with


@dataclass(frozen=True)
class Pool:
    """Pairs that compete in one loss, tokenized."""

    anchors: Rows
    positives: Rows
    negatives: Rows = ()
    """Hard negatives of all anchors, in any number."""
    labels: Tensor | None = None
    """(B,) classes; pairs of one class are not each other's negatives."""
    texts: Tensor | None = None
    """(2B + M,) integers, equal for equal texts: anchors, positives, negatives."""


@dataclass(frozen=True)
class StepReport:
    """What one step cost and gave."""

    loss: float
    tokens: int
    """Real tokens, padding not counted."""
    padded_tokens: int


class ContrastiveStep:
    """Compute the loss of a pool and leave its gradients in the parameters.

    Args:
        embedder: the model; dropout is on if it is in training mode.
        loss: ``(anchors, positives, labels=..., negatives=..., texts=...) -> scalar``.
        micro_batch_tokens: tokens of one micro-batch, padding included; a longer text is one of its own.
        grad_cache: run the micro-batches twice instead of keeping the graphs of all.
        autocast: dtype of the forward pass where it is not that of the weights; None: no autocast.
        processes: those that share the work; None: this one is alone.
    """

    def __init__(
        self,
        embedder: Embedder,
        loss: nn.Module,
        *,
        micro_batch_tokens: int,
        grad_cache: bool = False,
        autocast: torch.dtype | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.embedder = embedder
        self.loss = loss
        self.micro_batch_tokens = micro_batch_tokens
        self.grad_cache = grad_cache
        self.autocast = autocast
        self.processes = processes or Processes()
        if embedder.device.type == "cpu":
            keep_freed_memory()
        key_dropout(embedder)
        fuse_norms(embedder.backbone)

    def __call__(self, pool: Pool, *, key: Sequence[int], scale: float = 1.0) -> StepReport:
        """Add the gradients of ``scale`` times the loss of ``pool`` to ``.grad``.

        With several processes it is this one's part of them: see :meth:`share_gradients`.

        Args:
            pool: B pairs; every process is given the same.
            key: what the draws of dropout depend on, besides the place of the text: (seed, step).
            scale: 1 over the number of pools whose gradients are accumulated.

        Raises:
            torch.OutOfMemoryError: in all processes, if one runs out of memory; ``.grad`` is then of no use.
        """
        rows = [*pool.anchors, *pool.positives, *pool.negatives]
        dealt = shares(rows, self.processes.count)
        parts = self._parts(rows, dealt[self.processes.rank])
        with _own_random_state(self.embedder.device), self._fast():
            with self.processes.together(), torch.set_grad_enabled(not self.grad_cache):
                prefix = self._prefix(rows, key)
                leaves = None if prefix is None else prefix.cut_off()
                apart = self.embedder.common_tokens(rows) if prefix is None else 0
                embed = partial(self._embed, rows, key=key, prefix=leaves, apart=apart)
                outputs = side_by_side(lambda part: [embed(batch) for batch in part], parts)
                own = self._by_place(parts, outputs)
            vectors = self.processes.gather(own, [len(share) for share in dealt])
            with self.processes.together():
                loss, gradients = self._loss(pool, vectors, list(chain.from_iterable(map(sorted, dealt))), scale)

                def graphs(number: int) -> Iterator[tuple[Tensor, Tensor]]:
                    for i, batch in enumerate(parts[number]):
                        output = embed(batch) if self.grad_cache else outputs[number][i]
                        outputs[number][i] = output.detach()  # frees the graph
                        yield output, gradients[batch]

                self._backward(graphs, len(parts), leaves)
                if prefix is not None and leaves is not None:
                    prefix.backward(leaves)
        return StepReport(loss, sum(map(len, rows)), self._padded(rows))

    def share_gradients(self) -> None:
        """Add up what the processes left in ``.grad``; called once, after the pools of an optimizer step."""
        for parameter in self.loss.parameters():
            if parameter.grad is not None and not self.processes.first:
                parameter.grad.zero_()  # every process has computed the whole of it
        modules = self.embedder, self.loss
        self.processes.sum_gradients(p for module in modules for p in module.parameters() if p.requires_grad)

    def sizes(self, rows: Rows) -> list[list[list[int]]]:
        """Return the tokens that are computed for each micro-batch of each worker of each process."""
        shared = self.embedder.shared_tokens(rows)
        dealt = (self._parts(rows, share) for share in shares(rows, self.processes.count))
        return [[[self._size(rows, batch, shared) for batch in part] for part in parts] for parts in dealt]

    def save_memory(self, pools: Iterable[Pool]) -> str:
        """Take less memory for the same gradients: GradCache first, then micro-batches half as large.

        Args:
            pools: of the step that ran out of it.

        Returns:
            The setting that is another one now, with its value.

        Raises:
            InputError: they hold one text each already, or are no larger than the longest text.
        """
        if not self.grad_cache:
            self.grad_cache = True  # the graphs of all micro-batches are no longer kept at once
            return "trainer.grad_cache=true"
        largest = longest = 0
        for pool in pools:
            rows = [*pool.anchors, *pool.positives, *pool.negatives]
            largest = max(largest, *chain(*chain(*self.sizes(rows))))
            longest = max(longest, max(map(len, rows)) - self.embedder.shared_tokens(rows))
        if largest <= longest:
            raise InputError(
                f"trainer.micro_batch_tokens: out of memory with a text of {longest} tokens alone in its micro-batch; "
                "set trainer.gradient_checkpointing=true, or lower trainer.batch_size or model.max_length"
            )
        self.micro_batch_tokens = max(longest, largest // 2)
        return f"trainer.micro_batch_tokens={self.micro_batch_tokens}"

    def _parts(self, rows: Rows, share: Sequence[int]) -> list[list[list[int]]]:
        """Return the micro-batches of each worker that computes a part of this share of the texts."""
        shared = self.embedder.shared_tokens(rows)
        tokens = sum(len(rows[i]) - shared for i in share)
        alone = len(share) < 2 or not self.embedder.is_shared_by_threads()
        count = 1 if alone else min(len(share), count_workers(tokens, torch.get_num_threads()))
        by_length = sorted(share, key=lambda i: -len(rows[i]))
        parts = []
        for own in (by_length[worker::count] for worker in range(count)):
            batches = self.embedder.batches([rows[i] for i in own], self.micro_batch_tokens, shared)
            parts.append([[own[i] for i in batch] for batch in batches])
        return parts

    def _size(self, rows: Rows, batch: Sequence[int], shared: int) -> int:
        """Return the tokens that are computed for a micro-batch."""
        sizes = [len(rows[i]) - shared for i in batch]
        return sum(sizes) if self.embedder.packs_texts() else len(sizes) * max(sizes)

    def _padded(self, rows: Rows) -> int:
        """Return the tokens of all micro-batches with their padding, those of a shared prefix counted for each text."""
        return sum(chain(*chain(*self.sizes(rows)))) + self.embedder.shared_tokens(rows) * len(rows)

    def _by_place(self, parts: Sequence[Sequence[Sequence[int]]], outputs: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the vectors of this process in the order of their texts, without a graph."""
        vectors = [output.detach() for part in outputs for output in part]
        if not vectors:
            return torch.empty(0, self.embedder.output_size, device=self.embedder.device)
        places = torch.tensor([i for part in parts for batch in part for i in batch])
        return torch.cat(vectors)[places.argsort().to(vectors[0].device)]

    def _backward(
        self, graphs: Callable[[int], Iterator[tuple[Tensor, Tensor]]], count: int, leaves: Prefix | None
    ) -> None:
        """Go on from the vectors of ``count`` parts to the parameters and to the prefix, in ``.grad``."""
        if count == 1:
            for output, gradient in graphs(0):
                torch.autograd.backward(output, gradient)
            return
        tensors = [*self.embedder.parameters(), *(() if leaves is None else leaves.tensors())]
        inputs = [tensor for tensor in tensors if tensor.requires_grad]
        accumulate(inputs, side_by_side(lambda number: summed(graphs(number), inputs), range(count)))

    @contextmanager
    def _fast(self) -> Iterator[None]:
        """Compute in the dtype of autocast throughout, short texts by plain products."""
        backbone = self.embedder.backbone
        with training_casts(backbone, self.autocast), lowered(backbone, self.autocast), short_attention(backbone):
            yield

    def _prefix(self, rows: Rows, key: Sequence[int]) -> Prefix | None:
        """Return the states of what all texts of the pool begin with; None if they are read whole.

        What dropout drops of them it drops for all texts of the pool.
        """
        shared = self.embedder.shared_tokens(rows)
        if not shared:
            return None
        with torch.enable_grad(), self._drawing([_PREFIX], key):
            return self.embedder.read_prefix(rows[0][:shared])

    def _embed(
        self, rows: Rows, batch: Sequence[int], key: Sequence[int], prefix: Prefix | None, apart: int = 0
    ) -> Tensor:
        """Return the vectors of one micro-batch, (len(batch), D); for ``apart`` see :meth:`_drawing`."""
        texts = [rows[i] for i in batch]
        before = 0 if prefix is None else prefix.length
        lengths = [len(row) - before for row in texts] if self.embedder.packs_texts() else None
        with self._drawing(batch, key, apart, lengths):
            return self.embedder.embed(texts, prefix)

    @contextmanager
    def _drawing(
        self, places: Sequence[int], key: Sequence[int], apart: int = 0, lengths: Sequence[int] | None = None
    ) -> Iterator[None]:
        """Compute in autocast, with the dropout of the texts at these places of the pool.

        The first ``apart`` tokens of the texts have that of the prefix. ``lengths`` are those of packed texts.
        """
        device = self.embedder.device
        _seed((*key, places[0]), device)  # of what draws by itself, as dropout inside attention does
        autocast = torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None)
        prefix = text_keys(key, [_PREFIX], device) if apart else None
        with keyed_by(text_keys(key, places, device), prefix, apart, lengths), autocast:
            yield

    def _loss(self, pool: Pool, vectors: Tensor, places: Sequence[int], scale: float) -> tuple[float, Tensor]:
        """Return the loss and its gradient at the vectors, in the order of the texts.

        Args:
            pool: B pairs.
            vectors: of the texts at these places of the pool.
            places: see above.
            scale: of the loss whose gradient it is.
        """
        ordered = torch.empty_like(vectors)
        ordered[torch.tensor(places, device=vectors.device)] = vectors
        ordered.requires_grad_()
        pairs = len(pool.anchors)
        anchors, positives, negatives = ordered[:pairs], ordered[pairs : 2 * pairs], ordered[2 * pairs :]
        labels, texts = (None if ids is None else ids.to(vectors.device) for ids in (pool.labels, pool.texts))
        hard = negatives if len(negatives) else None
        loss = self.loss(anchors, positives, labels=labels, negatives=hard, texts=texts)
        (loss * scale).backward()
        gradients = torch.zeros_like(ordered) if ordered.grad is None else ordered.grad
        return float(loss.detach()), gradients


def shares(rows: Rows, count: int) -> list[list[int]]:
    """Deal the indices of ``rows`` to ``count`` processes, longest first, so that all get about as many tokens.

    Two shares differ by no more than the longest row has tokens.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    return [order[rank::count] for rank in range(count)]


def _seed(key: Sequence[int], device: torch.device) -> None:
    """Seed the global generators."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    seed = int.from_bytes(digest[:7], "big")
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Give the global random state back as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
