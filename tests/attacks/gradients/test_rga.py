from __future__ import annotations

import pytest
import torch

from neurons import NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.rga import RateGradient

# Mean current in thresholds, and f at beta = 0.9, gamma = 0.2: 0.98/1.9 within reach, gamma below it, 0 outside.
CASES = [(-0.1, 0.0), (0.0, 0.2), (0.05, 0.2), (0.101, 0.98 / 1.9), (0.5, 0.98 / 1.9), (2.0, 0.98 / 1.9), (2.01, 0.0)]


@pytest.mark.parametrize("threshold", [1.0, 2.0])
@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "norse-lifbox", "paralif-t"])
def test_every_piece(name: str, threshold: float) -> None:
    mean = torch.tensor([case[0] for case in CASES], dtype=torch.float64) * threshold
    current = torch.stack([1.5 * mean, 0.5 * mean])[:, None].requires_grad_()  # two steps, [T, 1, cases]
    neuron = make_neuron(name, NeuronParameters(threshold=threshold))
    with RateGradient().applied(neuron):
        spikes = neuron(current)[0]
    incoming = torch.tensor([4.0, 2.0], dtype=torch.float64)[:, None, None].expand_as(spikes)
    (gradient,) = torch.autograd.grad(spikes, current, incoming)
    expected = torch.tensor([3.0 * case[1] / threshold for case in CASES], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected.expand(2, 1, -1))


def test_a_neuron_without_leak_is_straight_through_up_to_two_thresholds() -> None:
    """beta = 1: (1 - gamma + gamma)/2 everywhere from 0 on."""
    current = torch.tensor([[[0.01, 1.0, 1.99]]], dtype=torch.float64, requires_grad=True)
    neuron = make_neuron("lif", NeuronParameters(beta=1.0))
    with RateGradient(gamma=0.7).applied(neuron):
        spikes = neuron(current)[0]
    assert torch.autograd.grad(spikes.sum(), current)[0].flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_bad_gamma(gamma: float) -> None:
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\]"):
        RateGradient(gamma)
