"""Spiking neurons of several libraries behind one interface, computing one equation.

`import neurons` imports nothing heavy: names are resolved when they are used. `make_neuron` imports torch, and the
library of the neuron that is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neurons import forks as _forks  # noqa: F401  it must see every fork from here on

if TYPE_CHECKING:
    from neurons.base import NaNError, Neuron
    from neurons.kernels.dispatch import step_by_step
    from neurons.names import NEURONS, PEERS, list_neurons
    from neurons.parameters import MODES, RESETS, SURROGATES, Mode, NeuronParameters
    from neurons.registry import make_neuron, native_parameters, register, unregister
    from neurons.replay import Replay, ReplayError
    from neurons.rule import Rule, backward_rule
    from neurons.surrogate import Surrogate, surrogate_override
    from neurons.unroll import State

_HOMES = {
    "backward_rule": "neurons.rule",
    "step_by_step": "neurons.kernels.dispatch",
    "NEURONS": "neurons.names",
    "PEERS": "neurons.names",
    "NaNError": "neurons.base",
    "Neuron": "neurons.base",
    "list_neurons": "neurons.names",
    "MODES": "neurons.parameters",
    "Mode": "neurons.parameters",
    "NeuronParameters": "neurons.parameters",
    "RESETS": "neurons.parameters",
    "SURROGATES": "neurons.parameters",
    "Replay": "neurons.replay",
    "ReplayError": "neurons.replay",
    "Rule": "neurons.rule",
    "make_neuron": "neurons.registry",
    "native_parameters": "neurons.registry",
    "register": "neurons.registry",
    "unregister": "neurons.registry",
    "Surrogate": "neurons.surrogate",
    "surrogate_override": "neurons.surrogate",
    "State": "neurons.unroll",
}

__all__ = [
    "MODES",
    "NEURONS",
    "PEERS",
    "RESETS",
    "SURROGATES",
    "Mode",
    "NaNError",
    "Neuron",
    "NeuronParameters",
    "Replay",
    "ReplayError",
    "Rule",
    "State",
    "Surrogate",
    "backward_rule",
    "list_neurons",
    "make_neuron",
    "native_parameters",
    "register",
    "step_by_step",
    "surrogate_override",
    "unregister",
]


_MODULES = ("contract", "nir", "parity", "reference")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"neurons.{name}")
    if name == "__version__":
        from neurons.names import version_of

        return version_of("neurons")
    if name not in _HOMES:
        raise AttributeError(f"module 'neurons' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
