"""Which backend runs our own neurons: by device, and told to whoever asks."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from neurons.constants import PLAIN

if TYPE_CHECKING:
    from neurons.surrogate import Surrogate
    from neurons.unroll import State


class Backend(Protocol):
    """What `neurons.kernels.plain` defines."""

    def lif(
        self,
        current: Tensor,
        state: State,
        *,
        beta: Tensor,
        alpha: Tensor | None,
        threshold: Tensor,
        reset: str,
        detach_reset: bool,
        surrogate: Surrogate,
    ) -> tuple[Tensor, State]: ...

    def integrate(
        self, current: Tensor, state: State, *, beta: Tensor, alpha: Tensor | None
    ) -> tuple[Tensor, State]: ...


_STEP_BY_STEP = ContextVar("step by step", default=False)


@contextmanager
def step_by_step() -> Iterator[None]:
    """Compute `lif` and ParaLIF in plain torch operations, step by step, for the graphs that are built in the block.

    The same spikes, more slowly, and derivatives of any order on every device: the kernel for the CPU has them without
    this, those for other devices refuse second ones.
    """
    token = _STEP_BY_STEP.set(True)
    try:
        yield
    finally:
        _STEP_BY_STEP.reset(token)


def backend_of(device: torch.device) -> str:
    """The name of the backend that runs `lif` and ParaLIF on `device`: "numba", "triton" or "torch"."""
    if _STEP_BY_STEP.get():
        return "torch"
    if device.type == "cpu" and _has("numba"):
        return "numba"
    return "triton" if device.type == "cuda" and _has("triton") else "torch"


def threads_of(device: torch.device) -> str | None:
    """Whose threads `backend_of(device)` starts, "openmp" or "python"; None for a backend that starts none."""
    if backend_of(device) != "numba":
        return None
    from neurons.kernels.threads import scheduler

    return scheduler()


def backend_for(current: Tensor) -> Backend:
    """The backend for this tensor, one autograd node for all T.

    While torch traces (`torch.compile`, `torch.export`, `torch.jit`), which can look into plain torch alone, and in
    `step_by_step`, it is plain torch, and for subclasses of Tensor, which may have no memory (FakeTensor).
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if traced or _STEP_BY_STEP.get() or type(current) not in PLAIN:
        from neurons.kernels import plain

        return plain
    return _backend(backend_of(current.device))


@functools.cache
def _backend(name: str) -> Backend:
    from neurons.kernels.node import OneNode

    if name == "numba":
        from neurons.kernels import fused

        return fused
    if name == "triton":
        from neurons.kernels import triton_steps

        return OneNode(triton_steps)
    from neurons.kernels import torch_steps

    return OneNode(torch_steps)


@functools.cache
def _has(module: str) -> bool:
    if importlib.util.find_spec(module) is None:
        return False
    try:
        importlib.import_module(module)
    except Exception as error:  # numba refuses a numpy that is too new for it in its own words
        warnings.warn(
            f"{module} is installed and cannot be imported ({error}): lif and ParaLIF run in plain torch, more slowly",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
