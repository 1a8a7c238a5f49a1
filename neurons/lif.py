"""Our own multi-step LIF."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from neurons.base import SMALLEST_THRESHOLD, Neuron
from neurons.kernels.dispatch import backend_for, backend_of, threads_of
from neurons.parameters import DEFAULTS, Mode, NeuronParameters
from neurons.unroll import State


@final
class LIF(Neuron):
    """The shared LIF, equation and shapes as in `NeuronParameters`; with `alpha` it has a synapse. Both modes agree.

    Raises:
        ValueError: `learn_alpha` without `alpha`; `recurrent`.
    """

    replays_native = True

    def __init__(
        self,
        name: str = "lif",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        self._refuse_recurrent()
        if config.learn_alpha and config.alpha is None:
            raise self._refuse("learn_alpha", True, "without alpha there is no synapse to learn")
        self.state_names = ("membrane",) if config.alpha is None else ("membrane", "synapse")
        self._learn_configured()

    def backend(self, device: torch.device | str = "cpu") -> str:
        return backend_of(torch.device(device))

    def threads(self, device: torch.device | str = "cpu") -> str | None:
        return threads_of(torch.device(device))

    def equation(self) -> str:
        synapse = "" if self.config.alpha is None else "i[t] = alpha*i[t-1] + x[t]; "
        drive = "x[t]" if self.config.alpha is None else "i[t]"
        reset = {"zero": "u[t]*(1 - s[t])", "subtract": "u[t] - threshold*s[t]", "none": "u[t]"}[self.config.reset]
        return f"{synapse}u[t] = beta*v[t-1] + {drive}; s[t] = [u[t] > threshold]; v[t] = {reset}"

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        config = self.config
        return backend_for(current).lif(
            current,
            state,
            beta=self._value("beta", config.beta, current, 0, 1),
            alpha=None if config.alpha is None else self._value("alpha", config.alpha, current, 0, 1),
            threshold=self._value("threshold", config.threshold, current, SMALLEST_THRESHOLD, math.inf),
            reset=config.reset,
            detach_reset=config.detach_reset,
            surrogate=self.surrogate(),
        )
