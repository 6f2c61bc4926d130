"""How the C library hands out memory on a CPU."""

import ctypes
import functools
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 2**25
"""The highest threshold that the C library takes on 64-bit machines: 32 MB."""


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process use memory again that tensors have left, instead of asking for new pages for each.

    A training step allocates some gigabytes for its graph and frees them; that the kernel clears each page anew takes a
    twentieth of the step. The process keeps its largest size until it ends.

    Returns:
        Whether it is so now: on Linux with glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, -1))
