"""snnTorch's neurons behind our interface. Facts are of snntorch 1.0.0; tests/neurons pins each of them.

The library's object lives for one call of `forward`: it stores the membrane, the reset and with them the graph on
itself, keeps them when the batch size happens to match, and enters itself in a class-level list for good.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor

from neurons.base import SMALLEST_THRESHOLD, Neuron
from neurons.parameters import DEFAULTS, SYNAPSE_DECAY, Mode, NeuronParameters
from neurons.surrogate import spike
from neurons.unroll import State, unroll

if TYPE_CHECKING:
    from snntorch import SpikingNeuron


class _Kept(NamedTuple):
    """A decay that lies in [0, 1] already, in the cell's place for it.

    The cell clamps its decays again, and torch's clamp has no gradient at the bounds that a learned one may reach.
    """

    value: Tensor

    def clamp(self, low: float, high: float) -> Tensor:
        return self.value


class _SnnTorch(Neuron):
    """What `Leaky` and `Synaptic` have in common.

    In shared mode the state that goes into the cell is the membrane after the reset, so the reset that snnTorch would
    derive again from it has already happened: `mem_reset` is answered with zeros. Left alone, it reads "above the
    threshold after a subtraction" as "spiked before", and `reset_delay=False` then swallows the next spike. All of
    decay, integration, firing and reset are done by the library's `forward` with `reset_delay=False`.

    With `detach_reset` the cell is handed spikes without a gradient, and those with one go to the caller.
    """

    library = "snntorch"
    replays_native = True

    def __init__(
        self,
        name: str,
        config: NeuronParameters,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        import snntorch  # noqa: F401 - a missing library is reported when the neuron is made

        self._refuse_recurrent()
        if mode == "native" and not config.detach_reset:
            raise self._refuse(
                "detach_reset", False, "snnTorch's delayed reset is always detached; use shared mode, or lif"
            )
        self._learn_configured()

    def effective_parameters(self) -> dict[str, Any]:
        values = self.config.to_dict()
        if self.mode == "native":
            # The constructor's defaults; beta and alpha have none there.
            values["reset"] = self.config.changed().get("reset", "subtract")
            values["reset_delay"] = True
        return values

    def _build(
        self,
        cell_class: Callable[..., SpikingNeuron],
        fire: Callable[[Tensor], Tensor],
        like: Tensor,
        **decays: Tensor,
    ) -> Any:
        """A library cell that nothing but the caller holds."""
        values = self.effective_parameters()
        cell = cell_class(
            spike_grad=fire,
            reset_mechanism=values["reset"],
            reset_delay=self.mode == "native",
            threshold=self._value("threshold", self.config.threshold, like, SMALLEST_THRESHOLD, math.inf),
            **decays,
        )
        _forget(cell)
        for name, value in decays.items():
            delattr(cell, name)
            setattr(cell, name, _Kept(value))
        if self.mode == "shared":
            cell.mem_reset = torch.zeros_like
        return cell

    def _spike_function(self) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
        """The cell's `spike_grad`, and the place where it leaves the latest spikes with their gradient."""
        surrogate = self.surrogate()
        latest: list[Tensor] = []

        def fire(x: Tensor) -> Tensor:
            s = spike(x, surrogate)
            latest[:] = [s]
            return s.detach() if self.mode == "shared" and self.config.detach_reset else s

        return fire, latest


@final
class SnnTorchLIF(_SnnTorch):
    """`snntorch.Leaky`.

    Shared mode: u[t] = beta*v[t-1] + x[t], spikes and resets as in `NeuronParameters`, every reset and detach choice.
    Native mode: as its users get it, subtract with `reset_delay=True` (the threshold leaves after the decay):
    u[t] = beta*u[t-1] + x[t] - threshold*s[t-1], with the reset detached. State: the membrane.

    Source: snntorch 1.0.0, `snntorch/_neurons/leaky.py`; Eshraghian et al., Proceedings of the IEEE 111(9), 2023.

    Raises:
        ImportError: snntorch is not installed.
        ValueError: a synapse (`alpha`) or a recurrent connection is asked for, or an undetached reset in native mode.
    """

    def __init__(
        self,
        name: str = "snntorch-lif",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        for field in ("alpha", "learn_alpha"):
            if field in config.changed():
                reason = "snntorch.Leaky has no synapse; snntorch-synaptic, norse-lif and lif have"
                raise self._refuse(field, getattr(config, field), reason)

    def equation(self) -> str:
        return _equation(self, "x[t]")

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from snntorch import Leaky

        fire, latest = self._spike_function()
        beta = self._value("beta", self.config.beta, current, 0, 1)
        cell = self._build(Leaky, fire, current, beta=beta)

        def step(now: Tensor, state: State) -> tuple[Tensor, State]:
            _, membrane = cell(now, state[0])
            return latest[0], (membrane,)

        return unroll(step, current, state)


@final
class SnnTorchSynaptic(_SnnTorch):
    """`snntorch.Synaptic`, a LIF with a synapse.

    Shared mode: i[t] = alpha*i[t-1] + x[t]; u[t] = beta*v[t-1] + i[t], the rest as in `NeuronParameters`; `alpha`
    None is `SYNAPSE_DECAY`. Native mode: the library's delayed subtraction, see `SnnTorchLIF`.
    State: membrane, synapse.

    Source: snntorch 1.0.0, `snntorch/_neurons/synaptic.py`.

    Raises:
        ImportError: snntorch is not installed.
        ValueError: a recurrent connection, or an undetached reset in native mode.
    """

    state_names = ("membrane", "synapse")

    def __init__(
        self,
        name: str = "snntorch-synaptic",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)

    def effective_parameters(self) -> dict[str, Any]:
        values = super().effective_parameters()
        values["alpha"] = SYNAPSE_DECAY if self.config.alpha is None else self.config.alpha
        return values

    def equation(self) -> str:
        return "i[t] = alpha*i[t-1] + x[t]; " + _equation(self, "i[t]")

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from snntorch import Synaptic

        fire, latest = self._spike_function()
        cell = self._build(
            Synaptic,
            fire,
            current,
            alpha=self._value("alpha", self.effective_parameters()["alpha"], current, 0, 1),
            beta=self._value("beta", self.config.beta, current, 0, 1),
        )

        def step(now: Tensor, state: State) -> tuple[Tensor, State]:
            _, synapse, membrane = cell(now, state[1], state[0])
            return latest[0], (membrane, synapse)

        return unroll(step, current, state)


def _equation(neuron: _SnnTorch, drive: str) -> str:
    reset = neuron.effective_parameters()["reset"]
    if neuron.mode == "native":
        before = {"subtract": " - threshold*s[t-1]", "zero": "", "none": ""}[reset]
        decayed = "beta*u[t-1]*(1 - s[t-1])" if reset == "zero" else "beta*u[t-1]"
        return f"u[t] = {decayed} + {drive}{before}; s[t] = [u[t] > threshold]"
    after = {"zero": "u[t]*(1 - s[t])", "subtract": "u[t] - threshold*s[t]", "none": "u[t]"}[reset]
    return f"u[t] = beta*v[t-1] + {drive}; s[t] = [u[t] > threshold]; v[t] = {after}"


def _forget(cell: SpikingNeuron) -> None:
    """Take the cell off the list on which snnTorch keeps every neuron alive."""
    from snntorch import SpikingNeuron

    SpikingNeuron.instances[:] = [kept for kept in SpikingNeuron.instances if kept is not cell]
