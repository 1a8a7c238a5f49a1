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
