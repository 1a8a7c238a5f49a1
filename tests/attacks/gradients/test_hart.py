from __future__ import annotations

import math

import pytest
import torch
from mode_cases import currents, spikes_and_gradient, weights_of
from torch import Tensor

from neurons import NeuronParameters, make_neuron, reference
from resnet_spiking.attacks.gradients.hart import Hart


def _atan(u: Tensor, k: float = 2.0) -> Tensor:
    return k / 2 / (1 + (math.pi * k * u / 2) ** 2)


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "norse-lifbox"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("detach", [True, False])
def test_lif(name: str, reset: str, detach: bool) -> None:
    """The mean of what comes in, times the surrogate at the reference's membrane; nothing through time."""
    config, current = NeuronParameters(reset=reset, detach_reset=detach, threshold=0.8), currents()
    spikes, gradient = spikes_and_gradient(make_neuron(name, config), current, Hart())
    membrane = reference.lif(current, beta=0.9, threshold=0.8, reset=reset).membrane
    expected = weights_of(spikes).mean(0) * _atan((membrane - 0.8) / 0.8) / 0.8
    torch.testing.assert_close(gradient, expected)


def test_paralif() -> None:
    """Threshold, squashed threshold, rise, draw: each by its own step alone."""
    current = currents() - 0.5
    V = reference.paralif(current, "t", beta=0.9).membrane
    p, before = torch.tanh(V), torch.cat([torch.zeros(1, 2, 5, dtype=torch.float64), torch.tanh(V[:-1])])
    sigmoid = torch.sigmoid(V)
    slopes = {
        "t": _atan(V - 1),
        "st": _atan(sigmoid - 1 / (1 + math.exp(-1))) * sigmoid * (1 - sigmoid),
        "td": _atan(p - before - 0.01) * (1 - p**2),
        "sb": _atan(V),
    }
    for mode, slope in slopes.items():
        spikes, gradient = spikes_and_gradient(make_neuron(f"paralif-{mode}"), current, Hart())
        torch.testing.assert_close(gradient, weights_of(spikes).mean(0) * slope)


def test_other_surrogates() -> None:
    current = torch.tensor([[[0.7]]], dtype=torch.float64)
    _, gradient = spikes_and_gradient(make_neuron("lif"), current, Hart("triangle", 2.0))
    assert gradient.item() == pytest.approx(-2 * (1 - 2 * 0.3))  # the incoming gradient is -1
    with pytest.raises(ValueError, match="atan"):
        Hart("atn")
