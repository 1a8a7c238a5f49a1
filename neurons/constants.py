"""Fixed values as tensors. Filling one costs a GPU a kernel launch, as much as all time steps of a small layer."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)
"""Tensors that own memory; a subclass (FakeTensor) may not."""


def constant(value: float, dtype: torch.dtype, like: Tensor) -> Tensor:
    """`value` as a tensor without dimensions on the device of `like`; on CUDA the same one every time: not to change.

    While torch traces, or a CUDA graph is captured, which own the memory of what is made meanwhile, it is a new one.
    """
    kept = (
        like.device.type == "cuda"
        and type(like) in PLAIN
        and not torch.compiler.is_compiling()
        and not torch.cuda.is_current_stream_capturing()
    )
    return (_kept if kept else _filled)(value, dtype, like.device)


def resting(shape: torch.Size, dtype: torch.dtype, like: Tensor) -> Tensor:
    """A state of zeros; on CUDA one zero seen at every place, which takes no time to fill."""
    if like.device.type != "cuda":
        return torch.zeros(shape, dtype=dtype, device=like.device)
    return constant(0.0, dtype, like).expand(shape)


def _filled(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=dtype, device=device)


@functools.lru_cache(maxsize=256)
def _kept(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or later calls could not keep it for a backward pass
        return _filled(value, dtype, device)
