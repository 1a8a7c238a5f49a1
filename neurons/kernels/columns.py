"""Splitting columns over threads for kernels that release the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

SMALLEST_SHARE = 1 << 16
"""Elements of [T, M] per thread below which waking another thread costs more than it saves."""

_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def over_columns(kernel: Callable[[int, int], None], steps: int, columns: int, multiple: int) -> None:
    """Call `kernel(start, stop)` on ranges that cover [0, columns), on up to `torch.get_num_threads()` threads.

    The calling thread works as well. Ranges start at a multiple of `multiple` columns.
    """
    workers = min(torch.get_num_threads(), steps * columns // SMALLEST_SHARE, -(-columns // multiple))
    if workers <= 1:
        kernel(0, columns)
        return
    share = -(-columns // (workers * multiple)) * multiple
    pool = _threads(workers - 1)
    others = [pool.submit(kernel, start, min(start + share, columns)) for start in range(share, columns, share)]
    kernel(0, min(share, columns))
    for other in others:
        other.result()


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool
    # After a fork the threads are gone while the object is still there, hence the process id.
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < count:
        _pool = (os.getpid(), count, ThreadPoolExecutor(count, thread_name_prefix="neurons"))
    return _pool[2]
