"""Peers of the extra [peers]: native mode against the library called directly, ties, and equality with the others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neurons import PEERS, NeuronParameters, make_neuron, surrogate_override
from neurons.parity import compare


def _spikingjelly(current: Tensor) -> tuple[Tensor, Tensor]:
    from spikingjelly.activation_based.neuron import LIFNode

    node = LIFNode(step_mode="m")
    return node(current), node.v


def _sinabs(current: Tensor) -> tuple[Tensor, Tensor]:
    from sinabs.layers import LIF

    layer = LIF(tau_mem=-1 / math.log(0.9))
    return layer(current.transpose(0, 1)).transpose(0, 1), layer.v_mem


CALLS = {"spikingjelly-lif": _spikingjelly, "sinabs-lif": _sinabs}


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param.removesuffix("-lif"))
    return str(request.param)


def test_native_is_the_library_called_directly(peer: str) -> None:
    current = (torch.randn(25, 3, 6) * 6 + 2).requires_grad_()
    weights = torch.randn(25, 3, 6)
    expected, end = CALLS[peer](current)
    assert 0.05 < (expected > 0).float().mean() < 0.95
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), current)
    spikes, state = make_neuron(peer, mode="native")(current)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), current)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(state[0], end, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * float(expected_gradient.abs().max()))


def test_native_fires_at_the_threshold_and_shared_does_not(peer: str) -> None:
    """Both libraries fire at u >= threshold; powers of two make u = 1 exactly."""
    neuron = make_neuron(peer, NeuronParameters(beta=0.5), mode="native")
    at = torch.full((1, 1, 1), 2.0, dtype=torch.float64)  # gain 1/2
    assert neuron(at)[0].item() == 1
    assert make_neuron(peer, NeuronParameters(beta=0.5))(at / 2)[0].item() == 0


def test_sinabs_fires_more_than_once_a_step_natively_only() -> None:
    pytest.importorskip("sinabs")
    current = torch.full((1, 1, 1), 3.5)
    assert make_neuron("sinabs-lif", NeuronParameters(beta=0.5), mode="native")(2 * current)[0].item() == 3
    assert make_neuron("sinabs-lif", NeuronParameters(beta=0.5))(current)[0].item() == 1


@pytest.mark.parametrize("mode", ["shared", "native"])
def test_override_changes_the_gradient_alone(peer: str, mode: str) -> None:
    neuron = make_neuron(peer, mode=mode)  # type: ignore[arg-type]
    current = (torch.rand(10, 2, 4) * 8).requires_grad_()
    before, _ = neuron(current)
    with surrogate_override(neuron, "triangle", 0.3):
        overridden, _ = neuron(current)
    assert torch.equal(before, overridden)
    gradients = [torch.autograd.grad(spikes.sum(), current)[0] for spikes in (before, overridden)]
    assert gradients[1].abs().sum() > 0
    assert not torch.allclose(*gradients)


def test_equal_to_the_others_under_equal_terms() -> None:
    pytest.importorskip("spikingjelly")
    pytest.importorskip("sinabs")
    names = ["lif", "snntorch-lif", *PEERS]
    for condition, equal in (("zero", 6), ("subtract", 6), ("zero-attached", 3), ("none", 3)):
        report = compare(names, [condition], steps=60, width=16)
        assert [row.equal for row in report.comparisons] == [True] * equal, condition


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("spikingjelly-lif", {"reset": "none"}, "always resets"),
        ("spikingjelly-lif", {"alpha": 0.5}, "no synapse"),
        ("spikingjelly-lif", {"learn_beta": True}, "plain floats"),
        ("spikingjelly-lif", {"beta": 0.0}, "tau"),
        ("sinabs-lif", {"detach_reset": False}, "no gradient"),
        ("sinabs-lif", {"alpha": 0.0}, "divided by alpha"),
        ("sinabs-lif", {"learn_alpha": True}, "no synapse"),
    ],
)
def test_what_cannot_be_expressed_is_refused(name: str, changes: dict[str, object], reason: str) -> None:
    pytest.importorskip(name.removesuffix("-lif"))
    with pytest.raises(ValueError, match=reason) as error:
        make_neuron(name, NeuronParameters(**changes))  # type: ignore[arg-type]
    assert f"{next(iter(changes))}=" in str(error.value)


def test_sinabs_learns_what_lif_learns() -> None:
    pytest.importorskip("sinabs")
    config = NeuronParameters(alpha=0.6, learn_beta=True, learn_alpha=True, learn_threshold=True)
    current = torch.rand(20, 3, 5, dtype=torch.float64)
    gradients = []
    for name in ("lif", "sinabs-lif"):
        neuron = make_neuron(name, config, features=5).double()
        spikes, _ = neuron(current)
        assert 0.05 < spikes.mean() < 0.95
        (spikes * current).sum().backward()
        gradients.append([neuron.get_parameter(field).grad for field in ("beta", "alpha", "threshold")])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-9)
