"""Which backend runs our own neurons: by device, and told to whoever asks."""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType

import torch
from torch import Tensor


def backend_of(device: torch.device) -> str:
    """The name of the backend that runs `lif` and ParaLIF on `device`."""
    return "numba" if device.type == "cpu" and _has_numba() else "torch"


def backend_for(current: Tensor) -> ModuleType:
    """The module with `lif` and `integrate` for this tensor.

    While torch traces (`torch.compile`, `torch.export`) that is plain torch, which a tracer can look into.
    """
    if not torch.compiler.is_compiling() and backend_of(current.device) == "numba":
        from neurons.kernels import fused

        return fused
    from neurons.kernels import plain

    return plain


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None
