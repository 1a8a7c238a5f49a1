"""Surrogate derivatives against their closed forms, and replacing them in a whole model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from neurons import NEURONS, SURROGATES, NeuronParameters, make_neuron, reference, surrogate_override
from neurons.surrogate import Surrogate, derivative, spike

X = torch.tensor([-3.0, -0.75, -0.25, -0.1, 0.0, 0.1, 0.25, 0.75, 3.0], dtype=torch.float64)
SPIKING = [name for name in NEURONS if name != "relu"]


def _closed_form(name: str, k: float, x: float) -> float:
    if name == "atan":
        return k / 2 / (1 + (math.pi * k * x / 2) ** 2)
    if name == "fast_sigmoid":
        return 1 / (1 + k * abs(x)) ** 2
    if name == "sigmoid":
        return k * math.exp(-k * x) / (1 + math.exp(-k * x)) ** 2
    if name == "triangle":
        return k * max(0.0, 1 - k * abs(x))
    if name == "rectangle":
        return k / 2 if abs(x) < 1 / k else 0.0
    return {"ste": 1.0}[name]


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("slope", [0.5, 2.0, 25.0])
def test_closed_form(name: str, slope: float) -> None:
    x = X.clone().requires_grad_()
    s = spike(x, Surrogate(name, slope))
    assert torch.equal(s, (X > 0).double())
    (gradient,) = torch.autograd.grad(s.sum(), x)
    expected = torch.tensor([_closed_form(name, slope, float(value)) for value in X], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SURROGATES)
def test_the_oracles_antiderivative_is_one(name: str) -> None:
    x = torch.linspace(-2, 2, 57, dtype=torch.float64).requires_grad_()  # no point on a kink
    (slope,) = torch.autograd.grad(reference.antiderivative(name, 1.7, x).sum(), x)
    torch.testing.assert_close(slope, derivative(Surrogate(name, 1.7), x.detach()))


def _gradient(module: nn.Module, current: Tensor) -> tuple[Tensor, Tensor]:
    current = current.clone().requires_grad_()
    spikes, _ = module(current, generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad((spikes * torch.arange(spikes.numel()).reshape(spikes.shape)).sum(), current)
    return spikes.detach(), gradient


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("name", SPIKING)
def test_override_changes_the_gradient_and_nothing_else(name: str, mode: str) -> None:
    neuron = make_neuron(name, mode=mode)  # type: ignore[arg-type]
    current = torch.rand(8, 2, 5, dtype=torch.float64) * 1.5
    spikes, gradient = _gradient(neuron, current)
    with surrogate_override(nn.ModuleDict({"deep": nn.Sequential(neuron)}), "triangle", 0.3) as changed:
        assert changed == 1
        inside, replaced = _gradient(neuron, current)
        with pytest.raises(RuntimeError, match="stop"), surrogate_override(neuron, "ste", 1.0):
            raise RuntimeError("stop")
        assert torch.equal(_gradient(neuron, current)[1], replaced)  # the inner block is undone, the outer is not
    assert torch.equal(inside, spikes)
    assert (replaced - gradient).norm() > 0.05 * gradient.norm()
    after, restored = _gradient(neuron, current)
    assert torch.equal(after, spikes)
    assert torch.equal(restored, gradient)


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "norse-lifbox", "paralif-t"])
def test_override_is_the_surrogate_it_names(name: str) -> None:
    current = torch.rand(8, 2, 5, dtype=torch.float64) * 1.5
    neuron = make_neuron(name, NeuronParameters(surrogate="atan", slope=2.0))
    with surrogate_override(neuron, "fast_sigmoid", 5.0):
        _, replaced = _gradient(neuron, current)
    _, expected = _gradient(make_neuron(name, NeuronParameters(surrogate="fast_sigmoid", slope=5.0)), current)
    assert torch.equal(replaced, expected)


def test_override_leaves_other_models_alone() -> None:
    inside, outside = make_neuron("lif"), make_neuron("lif")
    current = torch.rand(8, 2, 5, dtype=torch.float64) * 1.5
    _, expected = _gradient(outside, current)
    with surrogate_override(inside, "ste", 1.0):
        assert torch.equal(_gradient(outside, current)[1], expected)
        assert not torch.equal(_gradient(inside, current)[1], expected)


def test_override_of_a_model_without_spikes() -> None:
    with surrogate_override(nn.Sequential(make_neuron("relu"), nn.Linear(2, 2)), "ste", 1.0) as changed:
        assert changed == 0


@pytest.mark.parametrize(("surrogate", "slope"), [("atn", 2.0), ("atan", 0.0), ("atan", -1.0)])
def test_override_refuses_what_it_does_not_know(surrogate: str, slope: float) -> None:
    with pytest.raises(ValueError, match=r"atan|slope"), surrogate_override(make_neuron("lif"), surrogate, slope):
        pass


@pytest.mark.parametrize("mode", ["shared", "native"])
def test_bernoulli_gradients(mode: str) -> None:
    """One step: ds/dV is sigmoid'(V), natively weighed by the probability (equation 18), overridden g(V)."""
    V = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(1, 2, 12)
    neuron = make_neuron("paralif-sb", mode=mode)  # type: ignore[arg-type]
    gain = 1.0 if mode == "shared" else 1 - math.exp(-1)
    weights = torch.arange(24).reshape(1, 2, 12)
    p = torch.sigmoid(V * gain)
    expected = p * (1 - p) if mode == "shared" else p * p * (1 - p)
    torch.testing.assert_close(_gradient(neuron, V)[1], gain * weights * expected)
    with surrogate_override(neuron, "fast_sigmoid", 3.0):
        torch.testing.assert_close(_gradient(neuron, V)[1], gain * weights / (1 + 3 * (V * gain).abs()) ** 2)
