"""What a CUDA device computes in where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Inside, fp32 products on CUDA are fp32, and cuDNN's algorithms give the same bits twice; no effect on a CPU.

    PyTorch lets cuDNN round the factors of fp32 convolutions to TF32 (10 bits of mantissa) unless it is told not to,
    and choose algorithms that add in any order. Also usable as a decorator.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic
    products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic = False, False, True
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic = before
