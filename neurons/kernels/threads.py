"""Running a compiled kernel on several threads: those of torch's own OpenMP, which are awake between its operations.

Threads of our own would have to be woken for every call, which takes longer than a small kernel, and would compete with
torch's for the cores. Where torch's runtime cannot be called, and after a fork, whose child has none of its threads,
a pool of Python threads does the same.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import torch

from neurons.forks import is_fork

_Kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def team(most: int) -> int:
    """How many threads to use where `most` could: never more than `torch.get_num_threads()`."""
    return max(1, min(torch.get_num_threads(), most))


def run(kernel: int, arguments: int, threads: int) -> None:
    """Call `kernel(arguments)`, both addresses, on `threads` threads at once, this one included, and wait for all.

    The kernel divides the work among its callers itself, and is right for any number of them: OpenMP may start fewer.
    """
    if threads == 1:
        _function(kernel)(arguments)
        return
    parallel = _openmp()
    if parallel is not None and not is_fork():
        parallel(kernel, arguments, threads, 0)
        return
    others = [_threads(threads - 1).submit(_function(kernel), arguments) for _ in range(threads - 1)]
    try:
        _function(kernel)(arguments)
    finally:
        wait(others)  # even when interrupted: what they write to is freed once this returns
    for other in others:
        other.result()


def scheduler() -> str:
    """Whose threads `run` uses in this process: "openmp" (torch's) or "python"."""
    return "openmp" if _openmp() is not None and not is_fork() else "python"


@functools.cache
def _function(kernel: int) -> Callable[[int], None]:
    return _Kernel(kernel)


@functools.cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """What a C compiler makes of `#pragma omp parallel`, from the runtime that torch was linked with.

    GNU's runtime defines it, and LLVM's and Intel's for programs that gcc compiled.
    """
    if sys.platform != "linux":
        return None  # elsewhere the lookup below is not known to find torch's own
    try:
        # A name is looked up in the library and in those it was linked with, in this order.
        parallel = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    called: Callable[[int, int, int, int], None] = parallel
    return called


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool
    # After a fork the threads are gone while the object is still there, hence the process id.
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < count:
        _pool = (os.getpid(), count, ThreadPoolExecutor(count, thread_name_prefix="neurons"))
    return _pool[2]
