from __future__ import annotations

import torch
from mode_cases import SPIKING, currents, make_head, spikes_and_gradient, weights_of
from torch.nn import functional

from neurons import make_neuron
from resnet_spiking.attacks.gradients.relaxed import Relaxed


def test_every_neuron_is_a_relu_of_its_mean_current() -> None:
    for name in SPIKING:
        if name in ("snntorch-synaptic", "norse-lif"):  # these have a synapse in between
            continue
        current = currents() - 0.75
        spikes, gradient = spikes_and_gradient(make_neuron(name), current, Relaxed())
        expected = weights_of(spikes).mean(0) * (current.mean(0) > 0)
        torch.testing.assert_close(gradient, expected.expand_as(gradient))


def test_silent_layers_have_a_gradient() -> None:
    current = torch.full((4, 1, 1), 0.01, dtype=torch.float64)
    spikes, gradient = spikes_and_gradient(make_neuron("lif"), current, Relaxed())
    assert not spikes.any()
    assert (gradient == weights_of(spikes).mean()).all()


def test_a_head_is_differentiated_as_a_multilayer_perceptron() -> None:
    """At the second layer mean drives are those of the spikes, so that only the masks come from the spiking head."""
    head = make_head("lif")
    pooled = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    with Relaxed().applied(head):
        logits, layers = head.trace(pooled)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), pooled)
    hidden = functional.linear(pooled, head.linears[0].weight, head.linears[0].bias).relu()
    positive = (head.linears[1](layers[0].mean(0)) > 0).detach()
    second = functional.linear(hidden, head.linears[1].weight, head.linears[1].bias) * positive
    (expected,) = torch.autograd.grad(functional.linear(second, head.output.weight)[:, 1].sum(), pooled)
    assert expected.any()
    torch.testing.assert_close(gradient, expected)
