"""How one pooled feature vector becomes an input over T time steps."""

from __future__ import annotations

import torch
from torch import Tensor


def rate_encode(pooled: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Return Bernoulli spikes ``[T, B, F]`` whose rate is the min-max normalised feature.

    ``p = (x - min_f x) / (max_f x - min_f x)`` per example, ``s_t ~ Bernoulli(p)``. The gradient
    passes straight through: ``ds_t/dp = 1``. A constant feature vector has rate 0.
    """
    low, high = pooled.amin(1, keepdim=True), pooled.amax(1, keepdim=True)
    rate = (pooled - low) / (high - low).clamp_min(torch.finfo(pooled.dtype).tiny)
    draws = torch.rand((steps, *pooled.shape), generator=generator, device=pooled.device, dtype=pooled.dtype)
    spikes = (draws < rate).to(pooled.dtype)
    return spikes + (rate - rate.detach())
