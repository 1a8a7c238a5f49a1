"""How one pooled feature vector becomes an input over T time steps."""

from __future__ import annotations

import torch
from torch import Tensor


def rate(pooled: Tensor) -> Tensor:
    """Return the rate ``p = (x - min_f x) / (max_f x - min_f x)`` in [0, 1] of pooled features ``[B, F]``.

    A constant feature vector has rate 0.
    """
    low, high = pooled.amin(1, keepdim=True), pooled.amax(1, keepdim=True)
    return (pooled - low) / (high - low).clamp_min(torch.finfo(pooled.dtype).tiny)


def rate_encode(pooled: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Return spikes ``[T, B, F]``, ``s_t ~ Bernoulli(p)`` with p the ``rate`` of pooled features ``[B, F]``.

    The gradient passes straight through: ``ds_t/dp = 1``.
    """
    p = rate(pooled)
    draws = torch.rand((steps, *pooled.shape), generator=generator, device=pooled.device, dtype=pooled.dtype)
    spikes = (draws < p).to(pooled.dtype)
    return spikes + (p - p.detach())


def expected_rate(pooled: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the mean of ``rate_encode``: the ``rate`` at every step, ``[T, B, F]``, and nothing drawn."""
    return rate(pooled).expand(steps, -1, -1)
