"""Which process of a run this one is, and how the others on this machine are started.

``torchrun`` says so in the environment, and so does :func:`start_others` to the processes that it starts.
"""

import os
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The place of a process in its run."""

    rank: int = 0
    """Of all processes; the first one writes the run's folder and scores."""
    count: int = 1
    local_rank: int = 0
    """Of those on this machine; the number of its device."""
    local_count: int = 1


def place() -> Place:
    """Return the place of this process; that of a process alone if nobody says otherwise."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Place()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Place(rank, count, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", count)))


def start_others(count: int, port: int) -> list[subprocess.Popen[bytes]]:
    """Start this program again, ``count`` - 1 times, with the same command line.

    Args:
        count: of all processes, this one included.
        port: where this process waits for the others.
    """
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": str(threads_each(count))}
    command = [sys.executable, *sys.orig_argv[1:]]
    return [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(1, count)
    ]


def threads_each(count: int) -> int:
    """Return how many threads each of ``count`` processes computes with on a CPU: what the user says, or its share."""
    return int(os.environ.get("OMP_NUM_THREADS", "0")) or max(1, cores() // count)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
