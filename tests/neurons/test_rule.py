"""Backward rules: the neuron's own backpropagation through time must come out of a replay of its run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neuron_cases import STOCHASTIC
from torch import Tensor, nn

from neurons import NEURONS, NeuronParameters, backward_rule, make_neuron, surrogate_override
from neurons.base import Neuron
from neurons.replay import Replay, ReplayError
from neurons.surrogate import Surrogate, derivative
from neurons.unroll import State

ATAN = Surrogate("atan", 1.5)
SPIKING = [name for name in NEURONS if name != "relu"]


def _atan_through_time(neuron: Neuron, replay: Replay) -> Tensor:
    return replay.through_time(derivative(ATAN, replay.argument.detach()))


def _current(*shape: int, scale: float = 1.5) -> Tensor:
    return (torch.rand(*shape, dtype=torch.float64) * scale).requires_grad_()


def _gradient(neuron: Neuron, current: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
    spikes, after = neuron(current, state, generator=torch.Generator().manual_seed(3))
    weights = torch.linspace(-1, 2, spikes.numel(), dtype=spikes.dtype).reshape(spikes.shape)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), current)
    return spikes.detach(), gradient, after


def _assert_replayed(neuron: Neuron, current: Tensor, state: State | None = None) -> None:
    with surrogate_override(neuron, *ATAN):
        spikes, expected, after = _gradient(neuron, current, state)
    with backward_rule([neuron], _atan_through_time):
        under, gradient, same_after = _gradient(neuron, current, state)
    assert torch.equal(under, spikes)
    assert all(torch.equal(a, b) for a, b in zip(after, same_after, strict=True))
    assert expected.any()
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("mode", ["shared", "native"])
@pytest.mark.parametrize("name", SPIKING)
def test_replay_is_the_neurons_own_backward_pass(name: str, mode: str) -> None:
    neuron = make_neuron(name, mode=mode)  # type: ignore[arg-type]
    current = _current(9, 2, 5, scale=1.5 if mode == "shared" else 4.0)
    _assert_replayed(neuron, current)
    generator = torch.Generator().manual_seed(1)
    state = neuron(current.detach() - 0.9, generator=generator)[1]
    _assert_replayed(neuron, current, state)


@pytest.mark.parametrize("name", ["sinabs-lif", "spikingjelly-lif"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_peers(name: str, reset: str) -> None:
    pytest.importorskip(name.removesuffix("-lif"))
    neuron = make_neuron(name, NeuronParameters(reset=reset))
    current = _current(9, 2, 5)
    _assert_replayed(neuron, current)
    _assert_replayed(neuron, current, neuron(current.detach())[1])


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "snntorch-synaptic", "norse-lifbox"])
@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_resets_that_carry_a_gradient(name: str, reset: str) -> None:
    _assert_replayed(make_neuron(name, NeuronParameters(reset=reset, detach_reset=False)), _current(9, 2, 5))


@pytest.mark.parametrize("name", ["snntorch-lif", "snntorch-synaptic"])
@pytest.mark.parametrize("reset", ["zero", "none"])
def test_delayed_resets(name: str, reset: str) -> None:
    neuron = make_neuron(name, NeuronParameters(reset=reset, threshold=1.2), mode="native")
    current = _current(9, 2, 5)
    _assert_replayed(neuron, current)
    _assert_replayed(neuron, current, neuron(current.detach())[1])


@settings(max_examples=15, derandomize=True)
@given(
    beta=st.floats(0, 1),
    alpha=st.none() | st.floats(0, 0.9),
    threshold=st.floats(0.1, 0.9),
    reset=st.sampled_from(["zero", "subtract", "none"]),
    detach=st.booleans(),
    steps=st.integers(1, 6),
)
def test_any_lif(beta: float, alpha: float | None, threshold: float, reset: str, detach: bool, steps: int) -> None:
    config = NeuronParameters(beta=beta, alpha=alpha, threshold=threshold, reset=reset, detach_reset=detach)
    torch.manual_seed(steps)
    _assert_replayed(make_neuron("lif", config), _current(steps, 2, 20))


@pytest.mark.parametrize("name", ["lif", "norse-lif", "paralif-t", "paralif-td"])
def test_learned_values(name: str) -> None:
    config = NeuronParameters(alpha=0.5, learn_beta=True, learn_alpha=True, learn_threshold=True)
    neuron = make_neuron(name, config, features=5)
    with torch.no_grad():
        for value in neuron.parameters():
            value.mul_(torch.linspace(0.8, 1.05, 5))
    _assert_replayed(neuron, _current(9, 2, 5))


@pytest.mark.parametrize("name", STOCHASTIC)
def test_same_draws_from_the_global_generator(name: str) -> None:
    neuron, current = make_neuron(name), _current(6, 2, 5)
    torch.manual_seed(4)
    spikes, following = neuron(current)[0], torch.rand(3)
    torch.manual_seed(4)
    with backward_rule([neuron], _atan_through_time):
        assert torch.equal(neuron(current)[0], spikes)
    assert torch.equal(torch.rand(3), following)


@pytest.mark.parametrize(("name", "rate"), [("sb", torch.sigmoid), ("gs", lambda V: torch.sigmoid(2 * V))])
def test_probability_is_what_many_draws_give(name: str, rate: object) -> None:
    neuron, current = make_neuron(f"paralif-{name}"), torch.linspace(-2, 2, 6).reshape(1, 1, 6)
    means: list[Tensor | None] = []

    def rule(neuron: Neuron, replay: Replay) -> Tensor:
        means.append(replay.probability())
        return replay.spikes

    with backward_rule([neuron], rule):
        drawn = neuron(current.expand(1, 20_000, 6), generator=torch.Generator().manual_seed(0))[0].mean((0, 1))
    assert means[0] is not None
    torch.testing.assert_close(means[0][0, 0], rate(current[0, 0]))  # type: ignore[operator]
    torch.testing.assert_close(drawn, means[0][0, 0], rtol=0, atol=5 * 0.5 / 20_000**0.5)


def test_half_precision_and_its_gradient() -> None:
    neuron, current = make_neuron("lif"), _current(6, 2, 5).detach().bfloat16().requires_grad_()
    with backward_rule([neuron], _atan_through_time):
        spikes, _ = neuron(current)
    assert spikes.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert gradient.dtype == torch.bfloat16
    assert gradient.any()


def test_rules_nest_and_end_with_an_exception() -> None:
    neuron, current = make_neuron("lif"), _current(6, 2, 5)
    own = _gradient(neuron, current)[1]

    def nothing(neuron: Neuron, replay: Replay) -> Tensor:
        return replay.attach(0 * replay.drive)

    with backward_rule([neuron], _atan_through_time):
        outer = _gradient(neuron, current)[1]
        with backward_rule([neuron], nothing):
            assert not _gradient(neuron, current)[1].any()
        with pytest.raises(RuntimeError, match="stop"), backward_rule([neuron], nothing):
            raise RuntimeError("stop")
        assert torch.equal(_gradient(neuron, current)[1], outer)
    assert torch.equal(_gradient(neuron, current)[1], own)
    assert neuron.rule is None


def test_what_cannot_be_replayed_is_refused() -> None:
    pytest.importorskip("sinabs")
    recurrent = make_neuron("paralif-t", NeuronParameters(recurrent=True), features=4)
    several = make_neuron("sinabs-lif", mode="native")
    for neuron, reason in ((recurrent, "recurrence"), (several, "several times")):
        before = make_neuron("lif")
        with pytest.raises(ReplayError, match=reason), backward_rule([before, neuron], _atan_through_time):
            pass
        assert before.rule is None


def test_a_neuron_of_another_equation_is_found_out() -> None:
    class Quadratic(Neuron):
        def equation(self) -> str:
            return "s[t] = [x[t]**2 > 1]"

        def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
            return (current**2 > 1).to(current.dtype), state

    neuron = Quadratic("quadratic", NeuronParameters())
    with backward_rule([neuron], _atan_through_time), pytest.raises(ReplayError, match="equation"):
        neuron(torch.tensor([[[-2.0, 0.5]]]))


def test_a_rule_without_a_generator_sees_the_draws_of_the_run() -> None:
    """The Gumbel-softmax is differentiated at its own noise, whichever generator it came from."""
    from neurons import backward_rule, surrogate_override
    from neurons.surrogate import Surrogate, derivative

    neuron, found = make_neuron("paralif-gs"), []
    current = torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True)

    def rule(neuron: Any, replay: Any) -> torch.Tensor:
        return replay.through_time(derivative(Surrogate("atan", 1.5), replay.argument.detach()))

    for context in (surrogate_override(neuron, "atan", 1.5), backward_rule([neuron], rule)):
        torch.manual_seed(4)
        with context:
            spikes, _ = neuron(current)
        found.append(torch.autograd.grad(spikes.cumsum(0).sum(), current)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "paralif-sb"])
def test_spikes_may_be_changed_in_place(name: str) -> None:
    """As `nn.Dropout(inplace=True)` does."""
    neuron, current = make_neuron(name), torch.rand(5, 2, 3, requires_grad=True)
    with backward_rule(nn.Sequential(neuron), lambda neuron, replay: replay.through_time(replay.argument * 0 + 1)):
        neuron(current)[0].mul_(2).sum().backward()
    with surrogate_override(neuron, "atan"):
        neuron(current)[0].mul_(2).sum().backward()


def test_a_rule_is_for_neurons() -> None:
    neuron = make_neuron("lif")
    with backward_rule(nn.Sequential(nn.Linear(3, 3), neuron, make_neuron("relu")), _ones):
        assert neuron.rule is _ones
    assert neuron.rule is None
    with (
        pytest.raises(TypeError, match="must be a module or neurons, got Linear"),
        backward_rule([nn.Linear(3, 3)], _ones),
    ):
        pass


def _ones(neuron: Neuron, replay: Replay) -> Tensor:
    return replay.attach(replay.argument)
