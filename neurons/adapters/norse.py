"""norse's cells behind our interface. Facts are of norse 1.1.0; tests/neurons pins each of them.

norse looks its threshold function up by name, 1.1.0 ignores the slope of the default one ("super"), and its
feed-forward resets always carry a gradient. So the library's own step function is run with one name bound to another
function: `threshold`, to ours. Every other line is the library's, and the module it came from stays as it is.
"""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from neurons.base import SMALLEST_THRESHOLD, Neuron
from neurons.parameters import DEFAULTS, SYNAPSE_DECAY, Mode, NeuronParameters
from neurons.surrogate import spike
from neurons.unroll import State, unroll

NATIVE_STEP = 0.001
"""norse's default time step in seconds; its rates are per second."""


class _Rates(NamedTuple):
    """What a cell is built of, and fed with.

    Attributes:
        rate: tau_mem_inv.
        dt: the time step.
        scaled: the current in norse's units.
        pull: zero, times the membrane to be added to `scaled`: the gradient of a learned beta in shared mode. What goes
            through 1/(1 - beta) and 1 - beta one after the other differs from it by rounding that grows without bound
            towards beta = 1. None where nothing is learned, or the decay itself has the gradient.
    """

    rate: Tensor
    dt: float
    scaled: Tensor
    pull: Tensor | None


class _Norse(Neuron):
    """What `LIFBoxCell` and `LIFCell` have in common.

    norse computes v + k*(x - v) with k = dt * tau_mem_inv, so beta = 1 - k, and its input counts k-fold. In shared
    mode the step is 1, tau_mem_inv = 1 - beta and the current is divided by 1 - beta, which gives
    beta*v + x up to rounding; beta = 1 would divide by zero and is refused.
    """

    library = "norse"
    replays_native = True
    _native_beta = 0.9  # 1 - 0.001 s * 100/s

    def __init__(
        self,
        name: str,
        config: NeuronParameters,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        with warnings.catch_warnings():
            # norse 1.1.0 calls torch.jit.script while it is imported: nothing that a user could change.
            warnings.simplefilter("ignore", FutureWarning)
            import norse  # noqa: F401 - a missing library is reported when the neuron is made

        self._refuse_recurrent()
        self._refuse_native_slope()
        if config.beta == 1:
            raise self._refuse("beta", 1.0, "norse weighs its input by 1 - beta; snntorch-lif and lif can do it")
        self._learn_configured()

    def effective_parameters(self) -> dict[str, Any]:
        values = self.config.to_dict()
        if self.mode == "native":
            changed = self.config.changed()
            values["beta"] = changed.get("beta", self._native_beta)
            values["detach_reset"] = False
            values["input_gain"] = 1 - values["beta"]
            values |= self._native_surrogate("fast_sigmoid", 1.0)  # "super"; its alpha=100 has no effect
        return values

    def _rates(self, current: Tensor) -> _Rates:
        highest = 1 - torch.finfo(current.dtype).eps  # beta must leave 1 - beta to divide by, in this dtype
        beta = self._value("beta", min(self.effective_parameters()["beta"], highest), current, 0, highest)
        if self.mode == "native":
            return _Rates((1 - beta) / NATIVE_STEP, NATIVE_STEP, current, None)
        kept = beta.detach()
        pull = (beta - kept) / (1 - kept) if beta.requires_grad else None
        return _Rates(1 - kept, 1.0, current / (1 - kept), pull)

    def _threshold(self, like: Tensor) -> Tensor:
        return self._value("threshold", self.config.threshold, like, SMALLEST_THRESHOLD, math.inf)

    def _rebind(self, step: Callable[..., Any]) -> tuple[Callable[..., Any], list[Tensor]]:
        """norse's step with our threshold, and the place where that leaves the spikes with their gradient.

        A copy of the function with its own globals: no other user of norse in this process sees a change.
        """
        if not isinstance(step, types.FunctionType) or "threshold" not in step.__code__.co_names:
            raise RuntimeError(f"norse's {step!r} calls no `threshold`; this adapter is written for norse 1.1")
        surrogate = self.surrogate()
        latest: list[Tensor] = []
        detach = self.mode == "shared" and self.config.detach_reset

        def threshold(x: Tensor, method: str, alpha: float) -> Tensor:
            s = spike(x, surrogate)
            latest[:] = [s]
            return s.detach() if detach else s

        scope = {**step.__globals__, "threshold": threshold}
        return types.FunctionType(step.__code__, scope, step.__name__, step.__defaults__, step.__closure__), latest


@final
class NorseLIFBox(_Norse):
    """norse's `LIFBoxCell`, a LIF without a synapse.

    Shared mode: u[t] = beta*v[t-1] + x[t], spikes and resets as in `NeuronParameters`. The reset is norse's
    `reset_value` or `reset_subtract`, or for "none" a function that leaves the membrane (`LIFBoxParameters` takes any).
    Native mode: u[t] = v[t-1] + 0.1*(x[t] - v[t-1]), reset to zero with its gradient, surrogate 1/(1+|x|)^2.
    State: the membrane.

    Source: norse 1.1.0, `norse/torch/functional/lif_box.py`; Pehle and Pedersen, doi:10.5281/zenodo.4422025.

    Raises:
        ImportError: norse is not installed.
        ValueError: beta = 1, a synapse (`alpha`) or a recurrent connection.
    """

    def __init__(
        self,
        name: str = "norse-lifbox",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        for field in ("alpha", "learn_alpha"):
            if field in config.changed():
                reason = "LIFBoxCell has no synapse; norse-lif, snntorch-synaptic and lif have"
                raise self._refuse(field, getattr(config, field), reason)

    def equation(self) -> str:
        return _equation(self, "x[t]")

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
        from norse.torch.functional.reset import reset_subtract, reset_value
        from norse.torch.module.lif_box import LIFBoxCell

        resets = {"zero": reset_value, "subtract": reset_subtract, "none": _no_reset}
        rate, dt, scaled, pull = self._rates(current)
        cell = LIFBoxCell(
            LIFBoxParameters(
                tau_mem_inv=rate,
                v_leak=torch.zeros_like(rate),
                v_th=self._threshold(current),
                v_reset=torch.zeros_like(rate),
                reset_method=resets[self.config.reset],
            ),
            dt=dt,
        )
        cell.activation, latest = self._rebind(cell.activation)

        def step(now: Tensor, state: State) -> tuple[Tensor, State]:
            if pull is not None:
                now = now + pull * state[0]
            _, after = cell(now, LIFBoxFeedForwardState(v=state[0]))
            return latest[0], (after.v,)

        return unroll(step, scaled, state)


@final
class NorseLIF(_Norse):
    """norse's `LIFCell`, a LIF with a synapse.

    Shared mode: i[t] = alpha*i[t-1] + x[t]; u[t] = beta*v[t-1] + i[t], the rest as in `NeuronParameters`; `alpha`
    None is `SYNAPSE_DECAY`, norse's own default. It resets to zero only.
    Native mode: i[t] = 0.8*i[t-1] + x[t]; u[t] = v[t-1] + 0.1*(i[t] - v[t-1]), reset with its gradient, surrogate
    1/(1+|x|)^2. State: the membrane, and the synapse: as norse keeps it (after its decay, in norse's units), or, in
    shared mode where beta or alpha is learned, i[t], which means the same after an optimiser's step.

    Source: norse 1.1.0, `norse/torch/functional/lif.py`; Pehle and Pedersen, doi:10.5281/zenodo.4422025.

    Raises:
        ImportError: norse is not installed.
        ValueError: beta = 1, a reset other than "zero", or a recurrent connection.
    """

    state_names = ("membrane", "synapse")

    def __init__(
        self,
        name: str = "norse-lif",
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        if config.reset != "zero":
            raise self._refuse(
                "reset",
                config.reset,
                "LIFCell resets to a value; norse-lifbox, snntorch-lif, snntorch-synaptic, lif can",
            )

    def effective_parameters(self) -> dict[str, Any]:
        values = super().effective_parameters()
        values["alpha"] = SYNAPSE_DECAY if self.config.alpha is None else self.config.alpha
        return values

    def equation(self) -> str:
        return "i[t] = alpha*i[t-1] + x[t]; " + _equation(self, "i[t]")

    def _synapse(self, state: State, alpha: Tensor, beta: Tensor) -> Tensor:
        if self._keeps_synapse():
            return state[1]
        decayed = state[1] if self.mode == "native" else (1 - beta) * state[1]
        return decayed / alpha.clamp_min(torch.finfo(alpha.dtype).tiny)  # alpha = 0 leaves a state of 0

    def _keeps_synapse(self) -> bool:
        """Whether the state has i[t] of the equation."""
        return self.mode == "shared" and (self.config.learn_beta or self.config.learn_alpha)

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters
        from norse.torch.module.lif import LIFCell

        rate, dt, scaled, pull = self._rates(current)
        alpha = self._value("alpha", self.effective_parameters()["alpha"], current, 0, 1)
        cell = LIFCell(
            LIFParameters(
                tau_syn_inv=(1 - alpha) / dt,
                tau_mem_inv=rate,
                v_leak=torch.zeros_like(rate),
                v_th=self._threshold(current),
                v_reset=torch.zeros_like(rate),
            ),
            dt=dt,
        )
        cell.activation, latest = self._rebind(cell.activation)

        def step(now: Tensor, state: State) -> tuple[Tensor, State]:
            _, after = cell(now, LIFFeedForwardState(v=state[0], i=state[1]))
            return latest[0], (after.v, after.i)

        if not self._keeps_synapse():
            return unroll(step, scaled, state)
        risen: list[Tensor] = []  # the synapse before its decay

        def learning(now: Tensor, state: State) -> tuple[Tensor, State]:
            risen[:] = [state[1] + now]
            pulled = torch.zeros_like(now) if pull is None else pull * state[0]
            spikes, (membrane, synapse) = step(now + pulled, state)
            # What was added for beta's gradient is of this step alone.
            return spikes, (membrane, synapse - alpha * pulled)

        # rate is 1 - beta, as dt is 1.
        spikes, (membrane, _) = unroll(learning, scaled, (state[0], alpha * state[1] / rate))
        return spikes, (membrane, rate * risen[0])


def _no_reset(z: Tensor, v: Tensor, reset: Tensor, th: Tensor) -> Tensor:
    return v


def _equation(neuron: _Norse, drive: str) -> str:
    values = neuron.effective_parameters()
    gain = "(1 - beta)*" if neuron.mode == "native" else ""
    after = {"zero": "u[t]*(1 - s[t])", "subtract": "u[t] - threshold*s[t]", "none": "u[t]"}[values["reset"]]
    return f"u[t] = beta*v[t-1] + {gain}{drive}; s[t] = [u[t] > threshold]; v[t] = {after}"
