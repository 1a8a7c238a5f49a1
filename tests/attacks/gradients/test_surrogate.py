from __future__ import annotations

import math

import pytest
import torch
from mode_cases import DRAWN, SPIKING, currents, spikes_and_gradient
from torch import nn

from neurons import SURROGATES, NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.names import GRID, make_mode
from resnet_spiking.attacks.gradients.surrogate import SurrogateMode, default_grid
from resnet_spiking.errors import UserError


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


def test_a_rectifier_is_measured_in_thresholds() -> None:
    """r = max(0, mean d) / V_th."""
    current = torch.tensor([[[3.0, -1.0]], [[1.0, -1.0]]], dtype=torch.float64, requires_grad=True)
    neuron = make_neuron("lif", NeuronParameters(threshold=4.0))
    with make_mode("relu").applied(neuron):
        spikes = neuron(current)[0]
    assert torch.autograd.grad(spikes.sum(), current)[0].flatten().tolist() == [0.25, 0.0, 0.25, 0.0]


def test_a_layer_that_learned_several_thresholds_has_the_unit_of_their_mean() -> None:
    neuron = make_neuron("lif", NeuronParameters(learn_threshold=True), features=2)
    with torch.no_grad():
        neuron.threshold.copy_(torch.tensor([2.0, 6.0]))
    current = torch.tensor([[[1.0, 5.0]]], dtype=torch.float64, requires_grad=True)  # u = -1 for both
    with make_mode("atan:2").applied(neuron):
        spikes = neuron(current)[0]
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert gradient.flatten().tolist() == pytest.approx([1 / (1 + (torch.pi / 4) ** 2) / 4] * 2)


def test_a_layer_of_spikingjelly_is_refused() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    with pytest.raises(UserError, match="make_neuron"), make_mode("atan:2").applied(nn.Sequential(neuron.LIFNode())):
        pass


@pytest.mark.parametrize(
    ("name", "again"),
    [("atan", "atan:2"), ("fast_sigmoid", "fast_sigmoid:25"), ("sigmoid", "sigmoid:4"), ("triangle", "triangle:1")],
)
def test_a_family_without_a_slope_has_its_librarys(name: str, again: str) -> None:
    assert make_mode(name).name == again
