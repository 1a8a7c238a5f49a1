"""How output-layer currents over T steps become logits."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_spiking.config import CHOICES

READOUTS = CHOICES["readout"]


def read_out(currents: Tensor, readout: str, beta: float) -> Tensor:
    """Reduce output currents ``o [T, B, C]`` to logits ``[B, C]``.

    ``mean``: ``1/T sum_t o_t``; ``sum``: ``sum_t o_t``; ``last``: ``o_T``;
    ``membrane``: the time average of a leaky integrator that never fires,
    ``u_t = beta u_{t-1} + (1 - beta) o_t``.

    Raises ``ValueError`` for another readout.
    """
    if readout == "mean":
        return currents.mean(0)
    if readout == "sum":
        return currents.sum(0)
    if readout == "last":
        return currents[-1]
    if readout == "membrane":
        steps = len(currents)
        # The average of the integrator weights o_t by what is left of it until T: a closed form.
        age = torch.arange(steps, 0, -1, device=currents.device, dtype=currents.dtype)
        return torch.einsum("t,tbc->bc", (1 - beta**age) / steps, currents)
    raise ValueError(f"readout must be {', '.join(READOUTS)}, not {readout!r}")
