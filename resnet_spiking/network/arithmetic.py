"""What a CUDA device computes in where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_ALL: Any = torch.backends
_PRODUCTS, _CONVOLUTIONS = _ALL.cuda.matmul, _ALL.cudnn
_NAMED = hasattr(_CONVOLUTIONS, "conv") and hasattr(_PRODUCTS, "fp32_precision")
"""Whether precision has a name (torch 2.9 and later), which must not be mixed with the flags of before."""


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Inside, fp32 products on CUDA are fp32, and cuDNN's algorithms give the same bits twice; no effect on a CPU.

    PyTorch lets cuDNN round the factors of fp32 convolutions to TF32 (10 bits of mantissa) unless it is told not to,
    and choose algorithms that add in any order. Also usable as a decorator.
    """
    before, ordered = _precision(), _CONVOLUTIONS.deterministic
    _set_precision(("ieee", "ieee") if _NAMED else (False, False))
    _CONVOLUTIONS.deterministic = True
    try:
        yield
    finally:
        _set_precision(before)
        _CONVOLUTIONS.deterministic = ordered


def rounds_to_tf32() -> bool:
    """Say whether fp32 products or convolutions on CUDA may be rounded to TF32 now."""
    inherited = _ALL.fp32_precision if _NAMED else "none"
    return any(value is True or "tf32" in (value, inherited if value == "none" else "") for value in _precision())


def _precision() -> tuple[str | bool, str | bool]:
    """Return what matrix products and convolutions are set to."""
    if _NAMED:
        return _PRODUCTS.fp32_precision, _CONVOLUTIONS.conv.fp32_precision
    return _PRODUCTS.allow_tf32, _CONVOLUTIONS.allow_tf32


def _set_precision(values: tuple[str | bool, str | bool]) -> None:
    if _NAMED:
        _PRODUCTS.fp32_precision, _CONVOLUTIONS.conv.fp32_precision = values
    else:
        _PRODUCTS.allow_tf32, _CONVOLUTIONS.allow_tf32 = values
