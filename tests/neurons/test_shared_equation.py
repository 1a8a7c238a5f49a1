"""Every implementation against the oracle: spikes element for element in float64, gradients to 1e-6."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from neuron_cases import LIFS, MAY_HAVE_A_SYNAPSE, PARALIFS, RESETTING, STOCHASTIC, assert_same_gradient, oracle, run

from neurons import SURROGATES, NeuronParameters, make_neuron
from neurons.spike_functions import uniform_steps


def _drive(*shape: int, scale: float = 1.5) -> torch.Tensor:
    return (torch.rand(*shape, dtype=torch.float64) * scale).requires_grad_()


def _weights(shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize(("name", "reset", "detach"), RESETTING)
@pytest.mark.parametrize("slow", [False, True], ids=["alpha=None", "alpha=0.7"])
def test_lif_matches_oracle(name: str, reset: str, detach: bool, slow: bool) -> None:
    if slow and name not in MAY_HAVE_A_SYNAPSE:
        with pytest.raises(ValueError, match="no synapse"):
            make_neuron(name, NeuronParameters(alpha=0.7))
        return
    config = NeuronParameters(
        beta=0.85, alpha=0.7 if slow else None, threshold=0.8, reset=reset, detach_reset=detach, slope=3.0
    )
    current = _drive(30, 3, 5)
    expected = oracle(name, config, current)
    weights = _weights(expected.spikes.shape)
    assert 0.05 < expected.spikes.mean() < 0.99
    (expected_gradient,) = torch.autograd.grad((expected.spikes * weights).sum(), current)
    spikes = run(name, config, current)
    assert torch.equal(spikes, expected.spikes)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), current)
    assert_same_gradient(gradient, expected_gradient)


def test_the_choices_differ() -> None:
    """Guards the test above: if two resets or detach choices gave one answer, agreeing would prove nothing."""
    current = _drive(30, 3, 5)
    found = []
    for reset, detach in [("zero", True), ("zero", False), ("subtract", True), ("subtract", False), ("none", True)]:
        trace = oracle("lif", NeuronParameters(reset=reset, detach_reset=detach), current)
        (gradient,) = torch.autograd.grad(trace.spikes.sum(), current)
        found.append(gradient)
    assert all(not torch.allclose(a, b) for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("name", [*LIFS, "paralif-t", "paralif-d"])
def test_surrogates(name: str, surrogate: str) -> None:
    config = NeuronParameters(surrogate=surrogate, slope=1.7, delta_threshold=0.1)
    current = _drive(12, 2, 4)
    expected = oracle(name, config, current)
    (expected_gradient,) = torch.autograd.grad(expected.spikes.sum(), current)
    (gradient,) = torch.autograd.grad(run(name, config, current).sum(), current)
    assert_same_gradient(gradient, expected_gradient)


@pytest.mark.parametrize("name", PARALIFS)
@pytest.mark.parametrize("alpha", [None, 0.6])
def test_paralif_matches_oracle(name: str, alpha: float | None) -> None:
    config = NeuronParameters(beta=0.8, alpha=alpha, delta_threshold=0.02, slope=2.0 if name in STOCHASTIC else 4.0)
    current = (torch.randn(25, 2, 6, dtype=torch.float64) * 0.6).requires_grad_()
    uniform = {}
    if name in STOCHASTIC:
        uniform["uniform"] = uniform_steps(current, torch.Generator().manual_seed(5))[0]
    expected = oracle(name, config, current, **uniform)
    weights = _weights(expected.spikes.shape)
    assert 0.05 < expected.spikes.mean() < 0.95
    (expected_gradient,) = torch.autograd.grad((expected.spikes * weights).sum(), current)
    spikes = run(name, config, current, generator=torch.Generator().manual_seed(5))
    assert torch.equal(spikes, expected.spikes)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), current)
    assert_same_gradient(gradient, expected_gradient)


@pytest.mark.parametrize("name", [*LIFS, "paralif-t", "paralif-td", "paralif-trt", "paralif-sb"])
@pytest.mark.parametrize("features", [None, (1,), 5], ids=["one", "shared", "per neuron"])
def test_learned_values_get_their_gradient(name: str, features: int | tuple[int, ...] | None) -> None:
    config = NeuronParameters(
        beta=0.85,
        alpha=0.7 if name in MAY_HAVE_A_SYNAPSE or name.startswith("paralif") else None,
        threshold=1.0 if name in ("paralif-sb", "paralif-td") else 0.8,
        reset="zero" if name == "norse-lif" or name.startswith("paralif") else "subtract",
        detach_reset=False,
        learn_beta=True,
        learn_threshold=name != "paralif-sb",
    )
    config = dataclasses.replace(config, learn_alpha=config.alpha is not None)
    neuron = make_neuron(name, config, features=features).double()
    current = _drive(20, 3, 5, scale=0.8)
    leaves = {}
    for field, parameter in neuron.named_parameters():
        assert parameter.shape == torch.Size(
            [] if features is None else [features] if isinstance(features, int) else features
        )
        start = config.delta_threshold if field == "threshold" and name == "paralif-td" else getattr(config, field)
        assert torch.all(parameter == torch.tensor(start))
        leaves[field] = parameter.detach().clone().requires_grad_()
    assert len(leaves) == sum([config.learn_beta, config.learn_alpha, config.learn_threshold])
    seeds = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    drawn = {"uniform": uniform_steps(current, seeds[0])[0]} if name in STOCHASTIC else {}
    expected = oracle(name, config, current, **leaves, **drawn)
    weights = _weights(expected.spikes.shape)
    (expected.spikes * weights).sum().backward()
    spikes, _ = neuron(current, generator=seeds[1])
    assert torch.equal(spikes, expected.spikes)
    (spikes * weights).sum().backward()
    for field, parameter in neuron.named_parameters():
        assert_same_gradient(parameter.grad, leaves[field].grad)


def test_subtract_spikes_again_while_above_threshold() -> None:
    """snnTorch's reset_delay=False swallows the second spike of this trace; the shared equation does not."""
    current = torch.tensor([2.5, 0, 0], dtype=torch.float64).reshape(3, 1, 1)
    config = NeuronParameters(beta=0.9, reset="subtract")
    for name in ("snntorch-lif", "norse-lifbox", "lif"):
        assert run(name, config, current).flatten().tolist() == [1, 1, 0]


@pytest.mark.parametrize("name", LIFS)
def test_at_the_threshold_is_silent(name: str) -> None:
    """Strictly above; powers of two, so that every library's arithmetic is exact."""
    config = NeuronParameters(beta=0.5, alpha=0.0 if name in MAY_HAVE_A_SYNAPSE else None)
    current = torch.tensor([1.0, 0.5, 0.5, 0.75], dtype=torch.float64).reshape(4, 1, 1)
    assert run(name, config, current).flatten().tolist() == [0, 0, 0, 1]  # u = 1, 1, 1, 1.25


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("norse-lif", {"reset": "subtract"}, "resets to a value"),
        ("norse-lif", {"reset": "none"}, "resets to a value"),
        ("norse-lifbox", {"beta": 1.0}, "1 - beta"),
        ("norse-lifbox", {"alpha": 0.5}, "no synapse"),
        ("snntorch-lif", {"alpha": 0.5}, "no synapse"),
        ("lif", {"learn_alpha": True}, "no synapse"),
        ("paralif-t", {"learn_alpha": True}, "no synapse"),
        ("paralif-t", {"reset": "subtract"}, "no reset"),
        ("paralif-sb", {"threshold": 0.5}, "no threshold"),
        ("paralif-gs", {"learn_threshold": True}, "no threshold"),
        ("lif", {"recurrent": True}, "only ParaLIF"),
        ("snntorch-lif", {"recurrent": True}, "only ParaLIF"),
        ("norse-lif", {"recurrent": True}, "only ParaLIF"),
        ("paralif-t", {"recurrent": True}, "features"),
        ("relu", {"learn_beta": True}, "no decay"),
    ],
)
def test_what_cannot_be_expressed_is_refused(name: str, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        make_neuron(name, NeuronParameters(**changes))  # type: ignore[arg-type]
    assert name in str(error.value)
    assert f"{next(iter(changes))}=" in str(error.value)
