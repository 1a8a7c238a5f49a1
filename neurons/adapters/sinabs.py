"""sinabs' LIF behind our interface. Facts are of sinabs 3.1; tests/neurons pins each of them.

Its layer keeps the membrane in a buffer, has float32 time constants and starts from noise when the batch size changes;
the function underneath takes decay and state as arguments, so that is what runs.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from neurons.base import SMALLEST_THRESHOLD, Neuron
from neurons.parameters import DEFAULTS, Mode, NeuronParameters
from neurons.surrogate import derivative, spike
from neurons.unroll import State

SMALLEST_ALPHA = 1e-6


@final
class SinabsLIF(Neuron):
    """sinabs' `LIF`, with a synapse when `alpha` is given.

    Shared mode: u[t] = beta*v[t-1] + i[t] with `norm_input=False`, one spike strictly above the threshold through its
    `spike_fn`, and its `MembraneReset` or `MembraneSubtract`, or for "none" a reset function that leaves the membrane.
    Its synapse decays before it is used, i = alpha*(i + x), so the current is divided by alpha.
    Native mode: u[t] = beta*v[t-1] + (1 - beta)*x[t]; as many spikes as thresholds fit into u (MultiSpike), each
    subtracting one; surrogate 2/threshold * exp(-2 |u - threshold|/threshold). Its time constant has no default and is
    -1/log(beta). State: membrane; synapse with `alpha`.

    Source: sinabs 3.1, `sinabs/layers/functional/lif.py`.

    Raises:
        ImportError: sinabs is not installed.
        ValueError: reset="zero" with its gradient (`MembraneReset` has none), alpha = 0, a recurrent connection; in
            native mode beta 0 or 1, which no time constant gives.
    """

    library = "sinabs"

    def __init__(
        self,
        name: str = "sinabs-lif",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        import sinabs  # noqa: F401 - a missing library is reported when the neuron is made

        values = self.effective_parameters()
        self._refuse_recurrent()
        self._refuse_native_slope()
        if config.learn_alpha and config.alpha is None:
            raise self._refuse("learn_alpha", True, "without alpha there is no synapse to learn")
        if config.alpha == 0:
            raise self._refuse("alpha", 0.0, "its current is divided by alpha; use alpha=None, or lif")
        if values["reset"] == "zero" and not config.detach_reset:
            reason = "MembraneReset has no gradient through the spike; lif, snntorch-lif and norse-lifbox have"
            raise self._refuse("detach_reset", False, reason)
        if mode == "native" and config.beta in (0, 1):
            raise self._refuse("beta", config.beta, "tau_mem = -1/log(beta) must be a positive number")
        self.state_names = ("membrane",) if config.alpha is None else ("membrane", "synapse")
        self._learn_configured()

    def effective_parameters(self) -> dict[str, Any]:
        values = self.config.to_dict()
        if self.mode == "native":
            changed = self.config.changed()
            values["reset"] = changed.get("reset", "subtract")
            values["detach_reset"] = values["reset"] == "zero"
            values["input_gain"] = 1 - values["beta"]
            values |= self._native_surrogate("single_exponential", 1.0)
        return values

    def equation(self) -> str:
        reset = self.effective_parameters()["reset"]
        synapse = "" if self.config.alpha is None else "i[t] = alpha*i[t-1] + x[t]; "
        drive = "x[t]" if self.config.alpha is None else "i[t]"
        after = {"zero": "u[t]*[s[t] = 0]", "subtract": "u[t] - threshold*s[t]", "none": "u[t]"}[reset]
        if self.mode == "shared":
            return f"{synapse}u[t] = beta*v[t-1] + {drive}; s[t] = [u[t] > threshold]; v[t] = {after}"
        synapse = synapse.replace("alpha*i[t-1] + x[t]", "alpha*(i[t-1] + x[t])")
        return (
            f"{synapse}u[t] = beta*v[t-1] + (1 - beta)*{drive}; "
            f"s[t] = floor(u[t]/threshold) or 0 if that is negative; v[t] = {after}"
        )

    def replay_obstacle(self) -> str:
        return "in native mode it may spike several times a step (MultiSpike)" if self.mode == "native" else ""

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from sinabs.activation import MembraneReset, MembraneSubtract, MultiSpike, SingleExponential
        from sinabs.layers.functional.lif import lif_forward

        values, shared = self.effective_parameters(), self.mode == "shared"
        beta = self._value("beta", values["beta"], current, 0, 1)
        alpha = None if values["alpha"] is None else self._value("alpha", values["alpha"], current, SMALLEST_ALPHA, 1)
        threshold = self._value("threshold", values["threshold"], current, SMALLEST_THRESHOLD, math.inf)
        ours = self.surrogate()
        as_shipped = ours.name == "single_exponential"

        def surrogate(u: Tensor, threshold: Tensor) -> Tensor:
            return derivative(ours, u - threshold)

        class OneSpike:
            required_states = ("v_mem",)

            @staticmethod
            def apply(u: Tensor, threshold: Tensor, surrogate: object) -> Tensor:
                return spike(u - threshold, ours)

        def reset(spikes: Tensor, before: dict[str, Tensor], threshold: Tensor) -> dict[str, Tensor]:
            spikes = spikes.detach() if values["detach_reset"] else spikes
            library = MembraneReset() if values["reset"] == "zero" else MembraneSubtract()
            after: dict[str, Tensor] = library(spikes, before, threshold)
            return after

        parts = ("v_mem",) if alpha is None else ("v_mem", "i_syn")
        spikes, after, _ = lif_forward(
            (current / alpha if shared and alpha is not None else current).transpose(0, 1),  # [B, T, *features]
            alpha_mem=beta,
            alpha_syn=alpha,
            state=dict(zip(parts, state, strict=True)),
            spike_threshold=threshold,
            spike_fn=OneSpike if shared else MultiSpike,
            reset_fn=(lambda spikes, before, threshold: dict(before)) if values["reset"] == "none" else reset,
            surrogate_grad_fn=SingleExponential() if as_shipped else surrogate,
            min_v_mem=None,
            norm_input=not shared,
        )
        return spikes.transpose(0, 1), tuple(after[name] for name in parts)
