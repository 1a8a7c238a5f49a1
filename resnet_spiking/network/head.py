"""The two heads that turn pooled features into logits: linear (Default) and spiking."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from neurons import Mode, NeuronParameters, make_neuron
from resnet_spiking.network.encoding import rate_encode
from resnet_spiking.network.readout import READOUTS, read_out


@dataclass(frozen=True)
class HeadConfig:
    """A spiking head: ``(Linear -> neuron) x k -> Linear -> readout`` over ``num_steps`` steps.

    ``hidden`` names the width of each of the k layers; ``encoding`` is ``direct`` (the features at every step) or
    ``rate`` (see ``rate_encode``); ``readout``: see ``read_out``; ``neuron``, ``mode`` and ``parameters``: see
    ``neurons.make_neuron``.
    """

    neuron: str = "snntorch-lif"
    mode: Mode = "shared"
    parameters: NeuronParameters = field(default_factory=NeuronParameters)
    hidden: tuple[int, ...] = (256,)
    num_steps: int = 20
    encoding: str = "direct"
    readout: str = "mean"


class LinearHead(nn.Module):
    """The Default head: ``logits = W x + b`` on pooled features ``[B, F]``."""

    spiking = False
    stochastic = False
    on_maps = False

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(features, classes)

    def forward(self, pooled: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.output(pooled)

    def trace(self, pooled: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the spikes of each layer: none."""
        return self.output(pooled), []


class SpikingHead(nn.Module):
    """A head whose logits depend on the spikes of its last neuron layer and on nothing else.

    Pooled features ``x [B, F]`` are encoded over T steps; layer k computes the current
    ``W_k s_{k-1} + b_k`` for all T steps in one matrix product and feeds it to the neuron, whose
    recurrence alone runs in time. Logits ``[B, C]`` are the readout of ``W s_K + b``.

    With the ``direct`` encoding the input is the same at every step, so the first product is
    computed once. ``rate_encode`` is what the ``rate`` encoding calls; an attack may put its mean there.

    Raises ``ValueError`` for an unknown encoding or readout, no positive width, T < 1 or the readout membrane with
    beta = 1; and what ``make_neuron`` raises.
    """

    on_maps = False

    def __init__(self, features: int, classes: int, config: HeadConfig) -> None:
        super().__init__()
        if config.encoding not in ("direct", "rate"):
            raise ValueError(f"encoding must be direct or rate, not {config.encoding!r}")
        if not config.hidden or min(config.hidden) < 1:
            raise ValueError(f"hidden must name at least one positive width, not {config.hidden!r}")
        if config.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, not {config.num_steps}")
        if config.readout not in READOUTS:
            raise ValueError(f"readout must be {', '.join(READOUTS)}, not {config.readout!r}")
        if config.readout == "membrane" and config.parameters.beta == 1:
            raise ValueError("readout membrane with beta = 1 takes nothing in; choose beta < 1 or another readout")
        self.config = config
        widths = (features, *config.hidden)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.neurons = nn.ModuleList(
            make_neuron(config.neuron, config.parameters, mode=config.mode) for _ in config.hidden
        )
        self.output = nn.Linear(widths[-1], classes)
        self.rate_encode = rate_encode

    @property
    def spiking(self) -> bool:
        return all(neuron.spiking for neuron in self.neurons)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """A name for each entry of ``trace``'s list of spikes."""
        return tuple(f"layer {index}" for index in range(1, len(self.neurons) + 1))

    @property
    def stochastic(self) -> bool:
        return self.config.encoding == "rate" or any(neuron.stochastic for neuron in self.neurons)

    def forward(self, pooled: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return logits ``[B, C]`` for pooled features ``[B, F]``."""
        return self.trace(pooled, generator)[0]

    def trace(self, pooled: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and each layer's spikes ``[T, B, N_k]``."""
        steps = self.config.num_steps
        if self.config.encoding == "direct":
            return self._fire(self.linears[0](pooled).expand(steps, -1, -1), generator)
        return self.trace_steps(self.rate_encode(pooled, steps, generator), generator)

    def trace_steps(self, inputs: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return what ``trace`` does, for an input ``[T, B, F]`` that has been encoded already."""
        return self._fire(self.linears[0](inputs), generator)

    def _fire(self, current: Tensor, generator: torch.Generator | None) -> tuple[Tensor, list[Tensor]]:
        layers: list[Tensor] = []
        for index, neuron in enumerate(self.neurons):
            if index:
                current = self.linears[index](layers[-1])
            layers.append(neuron(current, generator=generator)[0])
        return self.logits(layers[-1]), layers

    def logits(self, spikes: Tensor) -> Tensor:
        """Return the logits ``[B, C]`` that the last layer's spikes ``[T, B, N]`` alone determine."""
        if self.config.readout in ("mean", "sum"):
            # Linear maps commute with the sum over time: one small product instead of T.
            total = spikes.sum(0)
            scale = 1 if self.config.readout == "sum" else len(spikes)
            return nn.functional.linear(total / scale, self.output.weight) + self.output.bias * len(spikes) / scale
        return read_out(self.output(spikes), self.config.readout, self.config.parameters.beta)
