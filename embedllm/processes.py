"""The processes that train one model together: each computes a share of every pool, and all hold the same weights.

What they tell each other goes over plain collectives of ``torch.distributed``: small numbers and objects over the CPU
(gloo), vectors and gradients over the device (NCCL on GPUs). A process that ends breaks the connections of the others,
so that none of them waits for it.
"""

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from embedllm.errors import Interrupted, PeerLost
from embedllm.launch import Place, place, start_others, threads_each

PATIENCE = timedelta(days=2)
"""How long a process waits for the others: the first one may score for hours."""

T = TypeVar("T")


class Processes:
    """This process among those that train together.

    Args:
        rank: of this process.
        count: of all; with 1 nothing is communicated.
        group: of ``torch.distributed``; None: all processes.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: dist.ProcessGroup | None = None) -> None:
        self.rank, self.count, self.group = rank, count, group

    @property
    def first(self) -> bool:
        """Whether this process writes, scores and logs."""
        return self.rank == 0

    def highest(self, value: int) -> int:
        """Return the highest of the values of all processes."""
        if self.count == 1:
            return value
        highest = torch.tensor(value)
        with _connected():
            dist.all_reduce(highest, dist.ReduceOp.MAX, group=self.group)
        return int(highest)

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes, those of the first one first.

        Args:
            rows: (counts[rank], D), without a graph.
            counts: rows of each process.
        """
        if self.count == 1:
            return rows
        padded = rows.new_zeros(max(counts), rows.size(1))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        with _connected():
            dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes, in one message for each dtype.

        A parameter without a gradient in any process stays without one.
        """
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters if self.count > 1 else ():
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for group in by_dtype.values():
            self._sum(group)

    def _sum(self, parameters: Sequence[nn.Parameter]) -> None:
        present = torch.tensor([float(p.grad is not None) for p in parameters]).to(parameters[0])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), present])
        with _connected():
            dist.all_reduce(flat, group=self.group)
        *sums, present = torch.split(flat, [*(p.numel() for p in parameters), len(parameters)])
        for parameter, total, count in zip(parameters, sums, present.tolist(), strict=True):
            parameter.grad = total.view_as(parameter) if count else None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise ``torch.OutOfMemoryError`` in every process if one runs out of memory inside."""
        error = None
        try:
            yield
        except torch.OutOfMemoryError as caught:
            error = caught
        if self.highest(int(error is not None)):
            raise error or torch.OutOfMemoryError("another process ran out of memory")

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` by those of the first process."""
        for tensor in tensors if self.count > 1 else ():
            with _connected(), torch.no_grad():
                dist.broadcast(tensor.detach(), 0, group=self.group)

    def by_first(self, act: Callable[[], T]) -> T | None:
        """Let the first process ``act``; return its result there, None elsewhere. No process goes on if it raises."""
        if self.count == 1:
            return act()
        result, raised = None, None
        if self.first:
            try:
                result = act()
            except BaseException as error:
                raised = error
        outcome: list[int | str | None] = [_described(raised)]
        with _connected():
            dist.broadcast_object_list(outcome, 0, group=self.group, device=torch.device("cpu"))
        if raised is not None:
            raise raised
        if isinstance(outcome[0], int):
            raise Interrupted(outcome[0])
        if isinstance(outcome[0], str):
            raise PeerLost(outcome[0])
        return result


@contextmanager
def joined(devices: int) -> Iterator[Processes]:
    """Join the processes of this training, after starting those that ``trainer.devices`` asks for.

    Args:
        devices: of this machine. Processes that ``torchrun`` started are there already.

    Raises:
        PeerLost: another process ended before it joined.
    """
    here = place()
    if devices == 1 and here.count == 1:
        yield Processes()
        return
    threads, children = torch.get_num_threads(), list[subprocess.Popen[bytes]]()
    try:
        if here.count == 1:
            store = TCPStore("127.0.0.1", 0, devices, is_master=True, wait_for_workers=False, timeout=PATIENCE)
            children = start_others(devices, store.port)
            here = Place(0, devices, 0, devices)
            torch.set_num_threads(threads_each(devices))
        else:
            store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        _wait_for_all(store, here, children)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        shared = PrefixStore("training", store)
        dist.init_process_group(backend, store=shared, rank=here.rank, world_size=here.count, timeout=PATIENCE)
        yield Processes(here.rank, here.count)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        _end(children)
        torch.set_num_threads(threads)


def _wait_for_all(store: Store, here: Place, children: Sequence[subprocess.Popen[bytes]]) -> None:
    store.set(f"here/{here.rank}", "")
    expected = [f"here/{rank}" for rank in range(here.count)]
    while not store.check(expected):
        if any(child.poll() is not None for child in children):
            raise PeerLost
        time.sleep(0.1)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for the processes that were started; what has lost its connection ends by itself."""
    for child in children:
        try:
            child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            child.kill()


@contextmanager
def _connected() -> Iterator[None]:
    """Say it plainly if the connection to another process breaks."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost from error


def _described(error: BaseException | None) -> int | str | None:
    """Return what the other processes are told: the signal of an interrupt, the message of an error."""
    if isinstance(error, Interrupted):
        return error.number
    return None if error is None else str(error)
