from __future__ import annotations

import math

import pytest
import torch
from mode_cases import DRAWN, SPIKING, currents, spikes_and_gradient

from neurons import SURROGATES, NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.names import GRID
from resnet_spiking.attacks.gradients.surrogate import SurrogateMode, default_grid


@pytest.mark.parametrize("family", SURROGATES)
@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "norse-lifbox", "norse-lif", "paralif-st", "paralif-d"])
def test_is_building_the_neuron_with_that_surrogate(name: str, family: str) -> None:
    current = currents()
    trained = make_neuron(name, NeuronParameters(surrogate="fast_sigmoid", slope=25.0))
    _, gradient = spikes_and_gradient(trained, current, SurrogateMode(family, 3.0))
    built = make_neuron(name, NeuronParameters(surrogate=family, slope=3.0))
    assert torch.equal(gradient, spikes_and_gradient(built, current)[1])


@pytest.mark.parametrize("name", [name for name in SPIKING if name not in DRAWN])
def test_what_a_neuron_was_trained_with_makes_no_difference(name: str) -> None:
    current, gradients = currents(), []
    for surrogate in ("atan", "triangle"):
        neuron = make_neuron(name, NeuronParameters(surrogate=surrogate, slope=0.7))
        gradients.append(spikes_and_gradient(neuron, current, SurrogateMode("atan", 4.0))[1])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", SPIKING)
def test_sharpness_changes_the_gradient_of_every_neuron(name: str) -> None:
    """A library that ignores the slope of its surrogate (norse 1.1 does) would show none."""
    neuron, current = make_neuron(name), currents()
    gradients = [spikes_and_gradient(neuron, current, mode)[1] for mode in default_grid()]
    for index, one in enumerate(gradients):
        assert one.any() or index >= 6  # a triangle of width 1 may miss every potential
        for other in gradients[:index]:
            assert (one - other).norm() > 0.01 * max(one.norm(), other.norm())


@pytest.mark.parametrize("learned", [False, True])
def test_potentials_are_measured_in_thresholds(learned: bool) -> None:
    """One step at u = 0.5 thresholds: (k/2) / (1 + (pi k 0.5 / 2)^2) / V_th."""
    config = NeuronParameters(threshold=4.0, learn_threshold=learned)
    for name in ("lif", "norse-lifbox", "paralif-t"):
        current = torch.full((1, 1, 1), 6.0, dtype=torch.float64, requires_grad=True)
        neuron = make_neuron(name, config, features=1)
        with SurrogateMode("atan", 2.0).applied(neuron):
            spikes = neuron(current)[0]
        (gradient,) = torch.autograd.grad(spikes.sum(), current)
        assert gradient.item() == pytest.approx(1 / (1 + (math.pi / 2) ** 2) / 4, rel=1e-6)


def test_grid() -> None:
    assert tuple(mode.name for mode in default_grid()) == GRID
    assert [mode.surrogate.slope for mode in default_grid()] == [0.5, 1, 2, 4, 8, 16, 1, 1]
    assert [mode.surrogate.name for mode in default_grid()] == ["atan"] * 6 + ["triangle", "ste"]
