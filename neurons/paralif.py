"""ParaLIF: a leaky membrane without reset, so that all T steps are one linear filter, and eleven ways to spike."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from neurons.base import SMALLEST_THRESHOLD, Neuron
from neurons.kernels.dispatch import backend_for, backend_of, threads_of
from neurons.names import PARALIF_MODES
from neurons.paralif_replay import ParaLIFReplay, ParaLIFTerms
from neurons.parameters import DEFAULTS, Mode, NeuronParameters, check_word
from neurons.replay import Replay, synaptic
from neurons.spike_functions import bernoulli, gumbel, squash, uniform_steps
from neurons.surrogate import spike
from neurons.unroll import State

_SQUASHING = {
    "gs": "",
    "sb": "s",
    "trb": "tr",
    "d": "",
    "sd": "s",
    "td": "t",
    "trd": "tr",
    "t": "",
    "st": "s",
    "tt": "t",
    "trt": "tr",
}


@final
class ParaLIF(Neuron):
    """ParaLIF in one of its modes, the part of the name after `paralif-`.

    Membrane, with gain g = 1 in shared mode (i[t] = x[t] when `alpha` is None):

        i[t] = alpha*i[t-1] + x[t];  V[t] = beta*V[t-1] + g*i[t]

    Spikes, with n = identity, sigmoid (prefix s), tanh (t) or relu(tanh) (tr), and U uniform on [0, 1):

        t  st  tt  trt   s[t] = [n(V[t]) > n(threshold)]
        d  sd  td  trd   s[t] = [n(V[t]) - n(V[t-1]) > delta_threshold], n(V[-1]) taken as 0
        sb trb           s[t] = [n(V[t]) > U[t]]: Bernoulli; backward ds/dV = n'(V), straight through the draw
        gs               s[t] = [2 V[t] + log(U[t]/(1 - U[t])) > 0]: the hard Gumbel-softmax of (V, -V) at temperature
                         1; backward is the derivative of the soft one

    `recurrent` (needs `features` as one int N): hidden spikes h[t] from V[t-1] by the same spike function, the matrix
    W [N, N] and a bias, and the membrane V[t] + filter(x + W h)[t] spikes.

    Native mode: the paper's gain g = 1 - beta and the reference implementation's defaults, both time constants one
    step (beta = alpha = exp(-1)), surrogate 1/(1 + 100|x|)^2, and in sb and trb backward ds/dV = n(V) n'(V)
    (equation 18).

    State: membrane; synapse with `alpha`; the previous n(V) in delta modes; the same again for the hidden pass of
    `recurrent`. Stochastic modes draw T uniforms [B, *features], one step after the other, so that chunks with
    one generator draw what the whole draws; `recurrent` draws twice as much, for h[t] and s[t].

    Source: Arnaud Yarga and Wood, "Accelerating spiking neural networks with parallelizable leaky integrate-and-fire
    neurons", Neuromorphic Computing and Engineering, 2025, equations 7 to 24; defaults from github.com/NECOTIS/ParaLIF.

    Raises:
        ValueError: reset="subtract"; a threshold where the mode has none, or compares a rise with `delta_threshold`;
            a surrogate where the mode draws its spikes; `learn_alpha` without `alpha`; `recurrent` without `features`
            of one dimension.
    """

    def __init__(
        self,
        name: str,
        config: NeuronParameters = DEFAULTS,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(name, config, mode=mode, features=features)
        self.spike_mode = check_word("ParaLIF mode", name.removeprefix("paralif-"), PARALIF_MODES)
        self.stochastic = self.spike_mode in ("gs", "sb", "trb")
        self.delta = self.spike_mode.endswith("d")
        self.squashing = _SQUASHING[self.spike_mode]
        values = self._values()
        if config.reset == "subtract":
            raise self._refuse("reset", "subtract", "ParaLIF has no reset; lif, snntorch-lif and norse-lifbox have")
        if config.learn_alpha and values["alpha"] is None:
            raise self._refuse("learn_alpha", True, "without alpha there is no synapse to learn")
        refused = {"threshold": "a rise is compared with delta_threshold"} if self.delta else {}
        if self.stochastic:
            refused = dict.fromkeys(("threshold", "learn_threshold"), "its spikes are drawn, there is no threshold")
            refused |= dict.fromkeys(("surrogate", "slope"), "its spikes are drawn, their mean has a derivative")
        for field, reason in refused.items():
            if field in config.changed():
                raise self._refuse(field, getattr(config, field), reason)
        for field in ("beta", "alpha"):
            if getattr(config, f"learn_{field}"):
                self._learn(field, values[field])
        if config.learn_threshold:
            self._learn("threshold", values["delta_threshold" if self.delta else "threshold"])
        self.feedback: nn.Linear | None = None
        if config.recurrent:
            if self.features is None or len(self.features) != 1:
                raise self._refuse("recurrent", True, f"it needs features of one dimension, got {features!r}")
            self.feedback = nn.Linear(self.features[0], self.features[0])
            nn.init.zeros_(self.feedback.bias)
        membrane = ("membrane",) if values["alpha"] is None else ("membrane", "synapse")
        one_pass = (*membrane, "previous") if self.delta else membrane
        self.state_names = one_pass + tuple(f"hidden {part}" for part in one_pass) if config.recurrent else one_pass

    def effective_parameters(self) -> dict[str, Any]:
        unused = {"threshold"} if self.delta else {"delta_threshold"}
        if self.stochastic:
            unused |= {"threshold", "learn_threshold", "surrogate", "slope"}
        return {field: value for field, value in self._values().items() if field not in unused}

    def _values(self) -> dict[str, Any]:
        values = self.config.to_dict()
        values["reset"] = "none"
        if self.mode == "native":
            changed = self.config.changed()
            values["beta"] = changed.get("beta", math.exp(-1))
            values["alpha"] = changed.get("alpha", math.exp(-1))
            values["input_gain"] = 1 - values["beta"]
            values |= self._native_surrogate("fast_sigmoid", 100.0)
        return values

    def backend(self, device: torch.device | str = "cpu") -> str:
        return backend_of(torch.device(device))

    def threads(self, device: torch.device | str = "cpu") -> str | None:
        return threads_of(torch.device(device))

    def equation(self) -> str:
        values = self._values()
        synapse = "" if values["alpha"] is None else "i[t] = alpha*i[t-1] + x[t]; "
        gain = "(1 - beta)*" if self.mode == "native" else ""
        drive = gain + ("x[t]" if values["alpha"] is None else "i[t]")
        n = {"": "{}", "s": "sigmoid({})", "t": "tanh({})", "tr": "relu(tanh({}))"}[self.squashing].format
        if self.spike_mode == "gs":
            fires = "s[t] = [2*V[t] + logistic noise > 0]"
        elif self.stochastic:
            fires = f"s[t] ~ Bernoulli({n('V[t]')})"
        elif self.delta:
            fires = f"s[t] = [{n('V[t]')} - {n('V[t-1]')} > delta_threshold]"
        else:
            fires = f"s[t] = [{n('V[t]')} > {n('threshold')}]"
        recurrent = "; spikes of V + filter(x + W h), h[t] from V[t-1]" if self.config.recurrent else ""
        return f"{synapse}V[t] = beta*V[t-1] + {drive}; {fires}{recurrent}"

    def membrane_threshold(self) -> float:
        return super().membrane_threshold() if self.spike_mode == "t" else 1.0

    def _witnesses(self, state: State) -> State:
        # The membrane that the hidden spikes come from is on its own.
        return state[:1] if self.feedback is None else (state[0], state[len(state) // 2])

    def replay_obstacle(self) -> str:
        return "" if self.feedback is None else "its recurrence feeds hidden spikes back that a run does not return"

    def _replay(self, current: Tensor, state: State, spikes: Tensor, generator: torch.Generator | None) -> Replay:
        values = self._values()
        with torch.no_grad():
            beta = self._value("beta", values["beta"], current, 0, 1)
            alpha = None if values["alpha"] is None else self._value("alpha", values["alpha"], current, 0, 1)
            height = values["delta_threshold" if self.delta else "threshold"]
            level = self._value("threshold", height, current, SMALLEST_THRESHOLD, math.inf)
        threshold = torch.ones_like(level) if self.stochastic or self.delta else level
        if self.spike_mode == "gs":
            (uniform,) = uniform_steps(current, generator)
            terms = ParaLIFTerms("gumbel", "", torch.zeros_like(level), None, uniform)
        elif self.stochastic:
            terms = ParaLIFTerms("bernoulli", self.squashing, torch.zeros_like(level), None, None)
        elif self.delta:
            terms = ParaLIFTerms("rise", self.squashing, level, state[-1], None)
        else:
            terms = ParaLIFTerms("level", self.squashing, squash(level, self.squashing), None, None)
        drive = (1 - beta) * current if self.mode == "native" else current
        if alpha is not None:
            drive = synaptic(drive, state[1], alpha)
        return ParaLIFReplay(drive, spikes, state[0], beta, threshold, terms)

    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        values = self._values()
        beta = self._value("beta", values["beta"], current, 0, 1)
        alpha = None if values["alpha"] is None else self._value("alpha", values["alpha"], current, 0, 1)
        if self.mode == "native":
            current = (1 - beta) * current
        filtering = 1 if alpha is None else 2  # how many tensors of the state the filter owns
        passes = 1 if self.feedback is None else 2
        draws = uniform_steps(current, generator, passes) if self.stochastic else (None,) * passes
        if self.feedback is None:
            return self._one_pass(current, None, state, beta, alpha, filtering, draws[0])
        half = len(state) // 2
        own, hidden = state[:half], state[half:]
        before = hidden[0]
        V, filtered = backend_for(current).integrate(current, hidden[:filtering], beta=beta, alpha=alpha)
        shifted = torch.cat([before.unsqueeze(0), V[:-1]])  # V[t-1]
        h, previous = self._spikes(shifted, hidden[filtering:], draws[0])
        with torch.autocast(h.device.type, enabled=False):
            feedback = linear(h, self.feedback.weight.to(h.dtype), self.feedback.bias.to(h.dtype))
        if self.mode == "native":
            feedback = (1 - beta) * feedback
        spikes, own = self._one_pass(current + feedback, V, own, beta, alpha, filtering, draws[1])
        return spikes, own + filtered + previous

    def _one_pass(
        self,
        current: Tensor,
        added: Tensor | None,
        state: State,
        beta: Tensor,
        alpha: Tensor | None,
        filtering: int,
        uniform: Tensor | None,
    ) -> tuple[Tensor, State]:
        """Filter `current`, add the hidden membrane if there is one, spike."""
        if self.spike_mode == "t" and added is None:
            # A LIF that never resets: membrane and spikes in the same node.
            return backend_for(current).lif(
                current,
                state,
                beta=beta,
                alpha=alpha,
                threshold=self._value("threshold", self.config.threshold, current, SMALLEST_THRESHOLD, math.inf),
                reset="none",
                detach_reset=True,
                surrogate=self.surrogate(),
            )
        V, filtered = backend_for(current).integrate(current, state[:filtering], beta=beta, alpha=alpha)
        spikes, previous = self._spikes(V if added is None else V + added, state[filtering:], uniform)
        return spikes, filtered + previous

    def _spikes(self, V: Tensor, state: State, uniform: Tensor | None) -> tuple[Tensor, State]:
        """The mode's spikes of the membrane [T, B, *features]; the state is the previous n(V) in delta modes."""
        if uniform is not None and self.spike_mode == "gs":
            return gumbel(V, uniform, self.override), ()
        if uniform is not None:
            return bernoulli(V, self.squashing, uniform, self.override, equation_18=self.mode == "native"), ()
        n = squash(V, self.squashing)
        if self.delta:
            threshold = self._value("threshold", self.config.delta_threshold, V, SMALLEST_THRESHOLD, math.inf)
            rise = n - torch.cat([state[0].unsqueeze(0), n[:-1]])
            return spike(rise - threshold, self.surrogate()), (n[-1].clone(),)
        threshold = self._value("threshold", self.config.threshold, V, SMALLEST_THRESHOLD, math.inf)
        return spike(n - squash(threshold, self.squashing), self.surrogate()), ()
