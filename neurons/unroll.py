"""The loop over time of every neuron that steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], tuple[Tensor, State]]


def unroll(step: Step, current: Tensor, state: State) -> tuple[Tensor, State]:
    """Call `step(current[t], state) -> (spikes[t], state)` for each t.

    Args:
        step: one time step on [B, *features].
        current: [T, B, *features], T >= 1.
        state: the state before the first step.

    Returns:
        spikes [T, B, *features] and the state after the last step.
    """
    spikes = []
    for now in current.unbind(0):  # [B, *features]
        fired, state = step(now, state)
        spikes.append(fired)
    return torch.stack(spikes), state
