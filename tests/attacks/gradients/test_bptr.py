from __future__ import annotations

import torch
from mode_cases import currents, spikes_and_gradient, weights_of

from neurons import NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.bptr import BackwardThroughRate


def test_by_hand() -> None:
    """Two steps, beta = 1: the first neuron fires at the second step, the second never, threshold 2."""
    current = torch.tensor([[[1.5, 0.1]], [[1.0, 0.1]]], dtype=torch.float64, requires_grad=True)
    neuron = make_neuron("lif", NeuronParameters(beta=1.0, threshold=2.0))
    with BackwardThroughRate().applied(neuron):
        spikes = neuron(current)[0]
    assert spikes.flatten().tolist() == [0, 0, 1, 0]
    incoming = torch.tensor([[[3.0, 5.0]], [[1.0, 7.0]]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(spikes, current, incoming)
    assert gradient.flatten().tolist() == [1.0, 0.0, 1.0, 0.0]  # (3 + 1)/2 / threshold


def test_any_neuron_is_straight_through_where_it_fires() -> None:
    for name in ("snntorch-lif", "norse-lifbox", "paralif-td", "paralif-sb"):
        neuron, current = make_neuron(name), currents()
        current[:, 0, 0] = -20.0
        spikes, gradient = spikes_and_gradient(neuron, current, BackwardThroughRate())
        expected = weights_of(spikes).mean(0) * spikes.any(0)
        assert not spikes[:, 0, 0].any()
        torch.testing.assert_close(gradient, expected.expand_as(gradient))


def test_reaches_the_current_through_the_synapse() -> None:
    """i[0] = x[0], i[1] = x[1] + alpha x[0], so that dL/dx[0] is (1 + alpha) times dL/di."""
    current = torch.tensor([[[3.0]], [[3.0]]], dtype=torch.float64, requires_grad=True)
    neuron = make_neuron("snntorch-synaptic", NeuronParameters(alpha=0.5))
    with BackwardThroughRate().applied(neuron):
        spikes = neuron(current)[0]
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert gradient.flatten().tolist() == [1.5, 1.0]
