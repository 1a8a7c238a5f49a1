"""Memory that tensors free stays with the process."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Of glibc's ``malloc.h``."""
GROWTH = 64 << 20  # bytes by which the heap grows at once


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for later tensors; return whether it could be told to.

    glibc takes every block above 32 MiB from the kernel and gives it back when it is freed, so that each training
    step pays for the same pages again, zeroed one by one. For the whole process and until it ends: its memory stays at
    its peak. Only glibc is told; elsewhere nothing happens. Numbers do not change.

    Source: mallopt(3), glibc 2.36; PyTorch's performance tuning guide on allocators.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, GROWTH))
    return all(mallopt(option, value) == 1 for option, value in settings)
