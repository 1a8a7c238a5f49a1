"""Random numbers that depend on where training is, not on how it got there.

Every draw (order, augmentation, rate encoding, stochastic spikes) comes from a generator seeded
by the run's seed and a label such as ``("default", epoch, step)``. A resumed run therefore draws
exactly what an uninterrupted one would have drawn, and no generator state needs saving.
"""

from __future__ import annotations

import hashlib

import torch


def generator_for(seed: int, *labels: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh generator that is a pure function of ``seed`` and ``labels``."""
    digest = hashlib.sha256(repr((seed, *labels)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))
