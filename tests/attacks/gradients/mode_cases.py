"""What every mode is tested on: neurons with currents that make them spike, and spiking heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurons import NEURONS, NeuronParameters
from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.network.head import HeadConfig, SpikingHead

SPIKING = [name for name in NEURONS if name != "relu"]
DRAWN = ("paralif-gs", "paralif-sb", "paralif-trb")


def spikes_and_gradient(module: nn.Module, current: Tensor, mode: GradientMode | None = None) -> tuple[Tensor, Tensor]:
    """The output of a neuron ``[T, B, N]`` and the gradient of a weighted sum of it to the current, under ``mode``."""
    current = current.detach().clone().requires_grad_()
    generator = torch.Generator().manual_seed(3)
    if mode is None:
        spikes = module(current, generator=generator)[0]
    else:
        with mode.applied(module):
            spikes = module(current, generator=generator)[0]
    return spikes.detach(), torch.autograd.grad((spikes * weights_of(spikes)).sum(), current)[0]


def weights_of(spikes: Tensor) -> Tensor:
    """The gradient that comes in: a different one for each spike, of either sign."""
    return torch.linspace(-1, 2, spikes.numel(), dtype=spikes.dtype).reshape(spikes.shape)


def currents(steps: int = 8, batch: int = 2, width: int = 5) -> Tensor:
    return torch.rand(steps, batch, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.5


def make_head(neuron: str, encoding: str = "direct", **parameters: Any) -> SpikingHead:
    """A head with two layers of neurons, in float64, that spikes on standard normal features ``[B, 6]``."""
    torch.manual_seed(1)
    config = HeadConfig(
        neuron=neuron,
        parameters=NeuronParameters(**parameters),
        hidden=(7, 5),
        num_steps=6,
        encoding=encoding,
    )
    head = SpikingHead(6, 3, config).double()
    with torch.no_grad():
        for linear in head.linears:
            linear.weight.mul_(3)
            linear.bias.abs_()
    return head
