"""The control without spikes."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from neurons.base import Neuron
from neurons.parameters import DEFAULTS, Mode, NeuronParameters
from neurons.unroll import State


@final
class ReLU(Neuron):
    """y[t] = max(0, x[t]) at every step: the same head with no dynamics and no spikes; both modes are the same.

    A control beside neurons takes their decay, threshold, reset and surrogate, and reads none of them: its
    `effective_parameters` are empty.

    Raises:
        ValueError: something to learn or a synapse is asked for; it has neither.
    """

    spiking = False
    state_names = ()
    library = "torch"

    def __init__(
        self,
        name: str = "relu",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        for field in ("alpha", "learn_beta", "learn_alpha", "learn_threshold", "recurrent"):
            if getattr(config, field) not in (None, False):
                raise self._refuse(field, getattr(config, field), "it has no decay, no synapse and no threshold")

    def equation(self) -> str:
        return "y[t] = max(0, x[t])"

    def effective_parameters(self) -> dict[str, object]:
        return {}

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        return torch.relu(current), state
