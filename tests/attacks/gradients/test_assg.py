from __future__ import annotations

import math

import pytest
import torch
from mode_cases import SPIKING, currents, make_head, spikes_and_gradient, weights_of
from torch import Tensor

from neurons import NeuronParameters, make_neuron
from resnet_spiking.attacks.gradients.assg import AdaptiveSharpness
from resnet_spiking.attacks.gradients.surrogate import SurrogateMode

OMEGA = 2.6517  # 2/pi * tan(76.5 degrees) = 0.63662 * 4.16530


def _step(mode: AdaptiveSharpness, neuron: torch.nn.Module, current: float) -> float:
    x = torch.full((1, 1, 1), current, dtype=torch.float64, requires_grad=True)
    with mode.applied(neuron):
        spikes = neuron(x)[0]
    return float(torch.autograd.grad(spikes.sum(), x)[0])


def test_two_attack_steps_by_hand() -> None:
    """u = 0.5 - 1, then 1.2 - 1: |u| = 0.5 and 0.2."""
    mode, neuron = AdaptiveSharpness(), make_neuron("lif")
    first = _step(mode, neuron, 0.5)
    mean, deviation = (float(part) for part in mode.moments[neuron])
    assert mean == pytest.approx(0.95)  # 0.9 * 1 + 0.1 * 0.5
    assert deviation == pytest.approx(0.045)  # 0.9 * 0 + 0.1 * |0.5 - 0.95|
    alpha = OMEGA / 1.0176  # 0.95 + 1.5 * 0.045 + 0.0001
    assert float(mode.sharpness(mode.moments[neuron])) == pytest.approx(alpha, rel=1e-4)
    assert first == pytest.approx(alpha / 2 / (1 + (math.pi / 2 * alpha * 0.5) ** 2), rel=1e-4)
    second = _step(mode, neuron, 1.2)
    mean, deviation = (float(part) for part in mode.moments[neuron])
    assert mean == pytest.approx(0.875)  # 0.9 * 0.95 + 0.1 * 0.2
    assert deviation == pytest.approx(0.108)  # 0.9 * 0.045 + 0.1 * |0.2 - 0.875|
    alpha = OMEGA / 1.0371  # 0.875 + 1.5 * 0.108 + 0.0001
    assert second == pytest.approx(alpha / 2 / (1 + (math.pi / 2 * alpha * 0.2) ** 2), rel=1e-4)
    mode.start()
    assert _step(mode, neuron, 0.5) == first


@pytest.mark.parametrize("name", SPIKING)
def test_constant_moments_are_an_arctangent(name: str) -> None:
    """decay = 1 leaves M = 1 and D = 0 for good: alpha = omega / 1.0001."""
    mode, neuron, current = AdaptiveSharpness(a=0.3, decay=1.0), make_neuron(name), currents()
    for _ in range(2):
        _, gradient = spikes_and_gradient(neuron, current, mode)
    _, expected = spikes_and_gradient(neuron, current, SurrogateMode("atan", mode.omega / 1.0001))
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def _slow(current: Tensor, alphas: Tensor, beta: float, reset: str, detach: bool) -> Tensor:
    """A LIF step by step with a sharpness per spike: the step plus (1/pi) atan(pi alpha u / 2) less its value."""
    v, fired = torch.zeros_like(current[0]), []
    for x, alpha in zip(current, alphas, strict=True):
        u = beta * v + x
        soft = torch.atan(math.pi / 2 * alpha * (u - 1)) / math.pi
        s = (u > 1).to(u.dtype) + (soft - soft.detach())
        fired.append(s)
        in_reset = s.detach() if detach else s
        v = u * (1 - in_reset) if reset == "zero" else u - in_reset
    return torch.stack(fired)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("detach", [True, False])
def test_backpropagates_through_time_with_a_sharpness_per_spike(reset: str, detach: bool) -> None:
    neuron = make_neuron("lif", NeuronParameters(beta=0.8, reset=reset, detach_reset=detach))
    mode, current = AdaptiveSharpness(decay=0.5), currents()
    for _ in range(5):
        spikes, gradient = spikes_and_gradient(neuron, current, mode)
    alphas = mode.sharpness(mode.moments[neuron])
    assert alphas.std() > 0.1
    x = current.clone().requires_grad_()
    expected = _slow(x, alphas, 0.8, reset, detach)
    assert torch.equal(expected.detach(), spikes)
    (slow,) = torch.autograd.grad((expected * weights_of(spikes)).sum(), x)
    torch.testing.assert_close(gradient, slow)


def test_sharpens_where_potentials_are_small() -> None:
    mode, neuron = AdaptiveSharpness(decay=0.5), make_neuron("lif")
    current = torch.tensor([[[1.01, 3.0]]], dtype=torch.float64)
    for _ in range(80):
        spikes_and_gradient(neuron, current, mode)
    near, far = mode.sharpness(mode.moments[neuron]).flatten().tolist()
    # M tends to |u| and D to 0, so that omega / |u| is the limit; the fraction 2 a of the area lies within |u|.
    assert near == pytest.approx(OMEGA / 0.0101, rel=0.05)
    assert far == pytest.approx(OMEGA / 2, rel=0.01)


def test_later_draws_of_a_step_find_the_moments_frozen() -> None:
    head = make_head("paralif-sb")
    mode, pooled = AdaptiveSharpness(), torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    with mode.applied(head):
        head(pooled, generator)
        first = dict(mode.moments)
        for _ in range(4):
            head(pooled, generator)
        assert all(mode.moments[neuron] is first[neuron] for neuron in head.neurons)
    with mode.applied(head):
        head(pooled, generator)
    assert all(not torch.equal(mode.moments[neuron].mean, first[neuron].mean) for neuron in head.neurons)


def test_moments_are_slower_where_spikes_are_drawn() -> None:
    """M after one step is b + (1 - b) |u|."""
    for name, encoding, b in (("lif", "direct", 0.9), ("lif", "rate", 0.99), ("paralif-sb", "direct", 0.99)):
        head, mode = make_head(name, encoding), AdaptiveSharpness()
        with mode.applied(head):
            head(torch.randn(3, 6, dtype=torch.float64), torch.Generator().manual_seed(0))
        mean, deviation = mode.moments[head.neurons[0]]
        size = (mean - b) / (1 - b)
        assert (size > -1e-9).all()
        torch.testing.assert_close(deviation, (1 - b) * (size - mean).abs())


def test_select_keeps_the_images_that_go_on() -> None:
    """Going on with images 2 and 0 is what attacking these alone from the start would have been."""
    kept = torch.tensor([2, 0])
    steps = [currents() + 0.1 * k for k in range(3)]
    steps = [torch.cat([x, x.flip(0)], 1) for x in steps]  # four images
    neuron, mode, alone = make_neuron("lif"), AdaptiveSharpness(), AdaptiveSharpness()
    for x in steps[:2]:
        spikes_and_gradient(neuron, x, mode)
        spikes_and_gradient(neuron, x[:, kept], alone)
    mode.select(kept)
    _, gradient = spikes_and_gradient(neuron, steps[2][:, kept], mode)
    assert torch.equal(gradient, spikes_and_gradient(neuron, steps[2][:, kept], alone)[1])
    mode.select(torch.tensor([], dtype=torch.long))
    assert mode.moments[neuron].mean.shape == (8, 0, 5)


def test_a_batch_that_changed_unannounced_is_an_error() -> None:
    neuron, mode = make_neuron("lif"), AdaptiveSharpness()
    spikes_and_gradient(neuron, currents(), mode)
    with pytest.raises(ValueError, match=r"start\(\).*select\(\)"):
        spikes_and_gradient(neuron, currents()[:, :1], mode)


@pytest.mark.parametrize("options", [{"a": 0.0}, {"a": 0.5}, {"gamma": -1.0}, {"decay": 1.5}, {"a": math.nan}])
def test_bad_arguments(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        AdaptiveSharpness(**options)
