from __future__ import annotations

import pytest
import torch

from neurons import NeuronParameters, make_neuron
from neurons.bounded import bounded


@pytest.mark.parametrize(
    ("value", "incoming", "found"),
    [(-0.5, 1.0, 0.0), (-0.5, -1.0, -1.0), (0.5, 1.0, 1.0), (0.5, -1.0, -1.0), (1.5, 1.0, 1.0), (1.5, -1.0, 0.0)],
)
def test_a_value_outside_its_interval_may_come_back_and_drifts_no_further(
    value: float, incoming: float, found: float
) -> None:
    leaf = torch.tensor(value, requires_grad=True)
    (bounded(leaf, 0.0, 1.0) * incoming).backward()
    assert leaf.grad == found  # descent moves against it


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "norse-lifbox", "paralif-t", "paralif-td"])
def test_a_learned_threshold_is_kept_above_zero(name: str) -> None:
    current, found = torch.randn(20, 4, 8), []
    for value in (-3.0, 1e-6):
        neuron = make_neuron(name, NeuronParameters(learn_threshold=True))
        with torch.no_grad():
            neuron.get_parameter("threshold").fill_(value)
        found.append(neuron(current)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["lif", "snntorch-synaptic", "norse-lif", "paralif-t"])
@pytest.mark.parametrize(("outside", "edge"), [(-0.5, 0.0), (1.5, 1.0)])
def test_a_learned_alpha_is_clamped(name: str, outside: float, edge: float) -> None:
    current, found = torch.randn(20, 4, 8), []
    for value in (outside, edge):
        neuron = make_neuron(name, NeuronParameters(alpha=0.5, learn_alpha=True))
        with torch.no_grad():
            neuron.get_parameter("alpha").fill_(value)
        found.append(neuron(current)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("value", [-0.2, 0.0, 0.3, 1 - 1e-6, 1.0, 1.2])
@pytest.mark.parametrize(
    ("names", "alpha"),
    [(("lif", "snntorch-lif", "norse-lifbox"), None), (("lif", "snntorch-synaptic", "norse-lif"), 0.8)],
)
def test_libraries_move_a_learned_decay_at_its_bounds_as_well(
    names: tuple[str, ...], alpha: float | None, value: float
) -> None:
    """Where snnTorch's clamp has no gradient, and the difference 1 - beta of norse's few digits."""
    current, found = torch.rand(20, 4, 5), []
    for name in names:
        neuron = make_neuron(name, NeuronParameters(alpha=alpha, learn_beta=True, learn_alpha=alpha is not None))
        with torch.no_grad():
            neuron.get_parameter("beta").fill_(value)
        neuron(current)[0].sum().backward()
        found.append([float(parameter.grad) for parameter in neuron.parameters() if parameter.grad is not None])
    assert found[0][0] != 0 or value < 0
    for others in found[1:]:
        assert others == pytest.approx(found[0], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", ["snntorch-synaptic", "norse-lif"])
def test_a_state_means_the_same_after_an_optimisers_step(name: str) -> None:
    """Truncated BPTT: the decays change between two chunks."""
    config = NeuronParameters(alpha=0.8, learn_beta=True, learn_alpha=True)
    current, found = torch.rand(40, 3, 50, dtype=torch.float64) * 0.4, []
    for each in ("lif", name):
        neuron = make_neuron(each, config).double()
        first, state = neuron(current[:20])
        with torch.no_grad():
            neuron.get_parameter("beta").fill_(0.8)
            neuron.get_parameter("alpha").fill_(0.6)
        found.append(torch.cat([first, neuron(current[20:], state)[0]]))
    assert found[0][20:].sum() > 100
    assert torch.equal(*found)
