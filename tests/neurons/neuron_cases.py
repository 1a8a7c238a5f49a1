"""Which parameters each neuron is tested with, and what the oracle says about them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from neurons import NeuronParameters, make_neuron, reference
from neurons.names import PARALIF_MODES
from neurons.parameters import SYNAPSE_DECAY

LIFS = ("snntorch-lif", "snntorch-synaptic", "norse-lifbox", "norse-lif", "lif")
ALWAYS_A_SYNAPSE = ("snntorch-synaptic", "norse-lif")
MAY_HAVE_A_SYNAPSE = (*ALWAYS_A_SYNAPSE, "lif")
PARALIFS = tuple(f"paralif-{mode}" for mode in PARALIF_MODES)
STOCHASTIC = ("paralif-gs", "paralif-sb", "paralif-trb")
RESETTING = [
    (name, reset, detach)
    for name, reset, detach in itertools.product(LIFS, ("zero", "subtract", "none"), (True, False))
    if name != "norse-lif" or reset == "zero"
]


def oracle(name: str, config: NeuronParameters, current: Tensor, **tensors: Tensor) -> reference.Trace:
    """The reference's answer to what `name` computes in shared mode; `tensors` stand in for config values."""
    values: dict[str, Any] = {field: getattr(config, field) for field in ("beta", "alpha", "threshold")}
    if name in ALWAYS_A_SYNAPSE and values["alpha"] is None:
        values["alpha"] = SYNAPSE_DECAY
    if name.startswith("paralif-"):
        mode = name.removeprefix("paralif-")
        if mode.endswith("d"):
            values["threshold"] = config.delta_threshold
        values |= tensors
        return reference.paralif(current, mode, surrogate=config.surrogate, slope=config.slope, **values)
    values |= {"reset": config.reset, "detach_reset": config.detach_reset}
    return reference.lif(current, surrogate=config.surrogate, slope=config.slope, **values | tensors)


def run(name: str, config: NeuronParameters, current: Tensor, **options: Any) -> Tensor:
    """The spikes of a new neuron from rest."""
    spikes: Tensor = make_neuron(name, config)(current, **options)[0]
    return spikes


def assert_same_gradient(actual: Tensor | None, expected: Tensor | None) -> None:
    """Equal to 1e-6 of the largest entry, and not equal by being zero or missing."""
    assert actual is not None
    assert expected is not None
    assert expected.abs().max() > 0
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
