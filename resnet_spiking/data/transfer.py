"""From memory to the device that computes, without waiting for what it is computing."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor``, which lies on the CPU, on ``device``.

    A copy from ordinary memory to a GPU waits for everything that is queued there, one from page-locked memory is
    queued itself.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
