"""spikingjelly's `LIFNode` behind our interface. Facts are of spikingjelly 2.0.0; tests/neurons pins each of them.

The library's object keeps its membrane between calls, so it lives for one call of `forward`.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from neurons.base import Neuron
from neurons.parameters import DEFAULTS, Mode, NeuronParameters
from neurons.surrogate import Surrogate, given_spikes, spike
from neurons.unroll import State

_NATIVE_SURROGATE = Surrogate("sigmoid", 4.0)


@final
class SpikingJellyLIF(Neuron):
    """spikingjelly's `LIFNode` in its multi-step mode, a LIF without a synapse.

    Shared mode: u[t] = v[t-1] - v[t-1]/tau + x[t] with tau = 1/(1 - beta) and `decay_input=False`, which is
    beta*v[t-1] + x[t] up to rounding; `v_reset` 0 for "zero", None for "subtract". The library fires at u >= threshold,
    in a surrogate function that its users may replace; ours fires strictly above.
    Native mode: its defaults, u[t] = v[t-1] + (x[t] - v[t-1])/2, reset to zero with its gradient, spikes at
    u >= threshold, surrogate "sigmoid" of slope 4. State: the membrane.

    Source: spikingjelly 2.0.0, `activation_based/neuron/lif.py`; Fang et al., Science Advances 9(40), 2023.

    Raises:
        ImportError: spikingjelly is not installed.
        ValueError: reset="none", a synapse, beta = 0, a learnable value (the library's are plain floats) or a recurrent
            connection.
    """

    library = "spikingjelly"
    replays_native = True

    def __init__(
        self,
        name: str = "spikingjelly-lif",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        import spikingjelly  # noqa: F401 - a missing library is reported when the neuron is made

        self._refuse_recurrent()
        if config.alpha is not None:
            raise self._refuse("alpha", config.alpha, "LIFNode has no synapse; norse-lif, snntorch-synaptic, lif have")
        if config.reset == "none":
            raise self._refuse("reset", "none", "LIFNode always resets; lif, snntorch-lif and norse-lifbox need not")
        if config.beta == 0:
            raise self._refuse("beta", 0.0, "LIFNode needs tau = 1/(1 - beta) > 1; lif and snntorch-lif can do it")
        for field in ("learn_beta", "learn_alpha", "learn_threshold"):
            if getattr(config, field):
                reason = "LIFNode's tau and v_threshold are plain floats; lif, snntorch-lif and norse-lifbox can learn"
                raise self._refuse(field, True, reason)

    def effective_parameters(self) -> dict[str, Any]:
        values = self.config.to_dict()
        if self.mode == "native":
            changed = self.config.changed()
            values["beta"] = changed.get("beta", 0.5)  # tau = 2
            values["detach_reset"] = False
            values["input_gain"] = 1 - values["beta"]
            values |= self._native_surrogate(*_NATIVE_SURROGATE)
        return values

    def equation(self) -> str:
        values = self.effective_parameters()
        drive, fires = ("x[t]", ">") if self.mode == "shared" else ("(1 - beta)*x[t]", ">=")
        after = "u[t]*(1 - s[t])" if values["reset"] == "zero" else "u[t] - threshold*s[t]"
        return f"u[t] = beta*v[t-1] + {drive}; s[t] = [u[t] {fires} threshold]; v[t] = {after}"

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from spikingjelly.activation_based import surrogate as library_surrogates
        from spikingjelly.activation_based.neuron import LIFNode

        values, surrogate, shared = self.effective_parameters(), self.surrogate(), self.mode == "shared"

        def fire(x: Tensor) -> Tensor:
            return spike(x, surrogate) if shared else given_spikes(x, (x >= 0).to(x.dtype), surrogate)

        as_shipped = not shared and self.override is None and surrogate == _NATIVE_SURROGATE
        node = LIFNode(
            tau=1 / (1 - values["beta"]) if values["beta"] < 1 else float("inf"),
            decay_input=not shared,
            v_threshold=values["threshold"],
            v_reset=0.0 if values["reset"] == "zero" else None,
            surrogate_function=library_surrogates.Sigmoid() if as_shipped else fire,
            detach_reset=values["detach_reset"],
            step_mode="m",
        )
        node.v = state[0]
        return node(current), (node.v,)
