from __future__ import annotations

import pytest
import torch
from mode_cases import currents, make_head, spikes_and_gradient
from torch import Tensor, nn

from neurons import NeuronParameters, make_neuron
from neurons.base import Neuron
from neurons.unroll import State
from resnet_spiking.attacks.gradients.expected import ExpectedRate
from resnet_spiking.attacks.gradients.surrogate import SurrogateMode
from resnet_spiking.errors import UserError


def _logit(head: nn.Module, pooled: Tensor) -> Tensor:
    with ExpectedRate().applied(head):
        logits: Tensor = head(pooled)
    return logits[:, 0].sum()


@pytest.mark.parametrize(
    ("neuron", "encoding"),
    [
        ("paralif-sb", "direct"),
        ("paralif-trb", "direct"),
        ("paralif-gs", "rate"),
        ("paralif-sb", "rate"),
        ("relu", "rate"),
    ],
)
def test_gradient_is_the_finite_difference_of_the_relaxation(neuron: str, encoding: str) -> None:
    head, pooled = make_head(neuron, encoding), torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(_logit(head, pooled), pooled)
    step, numeric = 1e-6, torch.zeros_like(pooled)
    with torch.no_grad():
        for index in range(pooled.numel()):
            move = torch.zeros(pooled.numel(), dtype=torch.float64)
            move[index] = step
            change = _logit(head, pooled + move.view_as(pooled)) - _logit(head, pooled - move.view_as(pooled))
            numeric.view(-1)[index] = change / (2 * step)
    assert numeric.abs().max() > 1e-3
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-7)


def test_logits_are_the_mean_of_many_draws_for_one_drawing_layer() -> None:
    """Rate encoding before neurons that are linear where their current is positive."""
    head = make_head("relu", "rate")
    with torch.no_grad():
        for linear in head.linears:
            linear.weight.abs_()
    pooled, draws = torch.randn(1, 6, dtype=torch.float64), 4000
    drawn = head(pooled.expand(draws, 6), torch.Generator().manual_seed(0))
    with ExpectedRate().applied(head):
        expected = head(pooled)[0]
    error = (drawn.mean(0) - expected).abs() / (drawn.std(0) / draws**0.5)
    assert error.max() < 4.5


def test_nothing_is_left_to_chance() -> None:
    head, pooled = make_head("paralif-gs", "rate"), torch.randn(2, 6, dtype=torch.float64)
    with ExpectedRate().applied(head):
        assert torch.equal(head(pooled), head(pooled))
    assert not torch.equal(head(pooled), head(pooled))


def test_neurons_that_draw_nothing_keep_spiking_under_one_surrogate() -> None:
    neuron, current = make_neuron("norse-lifbox", NeuronParameters(surrogate="triangle")), currents()
    actual = spikes_and_gradient(neuron, current, ExpectedRate("atan", 4.0))
    expected = spikes_and_gradient(neuron, current, SurrogateMode("atan", 4.0))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_a_neuron_that_does_not_tell_its_mean_is_refused() -> None:
    class Coin(Neuron):
        stochastic = True

        def equation(self) -> str:
            return "s[t] ~ Bernoulli(1/2)"

        def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
            return torch.zeros_like(current), state

    head = nn.Sequential(Coin("coin", NeuronParameters()))
    with pytest.raises(UserError, match=r"expected.*coin.*mean"), ExpectedRate().applied(head):
        head(torch.zeros(1, 1, 1))


def test_a_second_layer_sees_rates_instead_of_draws() -> None:
    head, pooled = make_head("paralif-sb"), torch.randn(3, 6, dtype=torch.float64)
    _, drawn = head.trace(pooled, torch.Generator().manual_seed(0))
    with ExpectedRate().applied(head):
        _, means = head.trace(pooled)
    current = head.linears[1](means[0])
    V = torch.zeros_like(current[0])
    for x, mean in zip(current, means[1], strict=True):
        V = 0.9 * V + x
        torch.testing.assert_close(mean, torch.sigmoid(V))
    assert ((drawn[0] == 0) | (drawn[0] == 1)).all()
