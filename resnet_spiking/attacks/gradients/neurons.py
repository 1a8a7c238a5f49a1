"""Which modules of a model a gradient mode gets hold of."""

from __future__ import annotations

from torch import nn

from neurons import Neuron
from resnet_spiking.errors import UserError

_LIBRARY_NEURONS = {
    ("snntorch", "SpikingNeuron"),
    ("norse", "SNN"),
    ("norse", "SNNCell"),
    ("norse", "SNNRecurrent"),
    ("norse", "SNNRecurrentCell"),
    ("spikingjelly", "BaseNode"),
    ("sinabs", "StatefulLayer"),
}


def is_library_neuron(module: nn.Module) -> bool:
    """Say whether a spiking layer comes straight from a library, where no mode reaches it."""
    return any((kind.__module__.split(".")[0], kind.__name__) in _LIBRARY_NEURONS for kind in type(module).__mro__)


def has_spikes(model: nn.Module) -> bool:
    """Say whether some layer of the model fires, one of ``neurons`` or of a library; others cannot be told."""
    return any(
        (isinstance(module, Neuron) and module.spiking) or is_library_neuron(module) for module in model.modules()
    )


def spiking_neurons(model: nn.Module) -> list[Neuron]:
    """Return the spiking neurons inside ``model``; none for a model without spikes, which is differentiated as it is.

    Raises ``UserError`` when a spiking layer comes straight from a library: no mode reaches it, and an
    attack "under another surrogate" would silently keep the layer's own.
    """
    for name, module in model.named_modules():
        if is_library_neuron(module):
            raise UserError(
                f"the gradient of {name or 'the model'} ({type(module).__module__}.{type(module).__name__}) cannot "
                "be replaced; make the layer with neurons.make_neuron, or attack with the gradient mode 'own'"
            )
    return [module for module in model.modules() if isinstance(module, Neuron) and module.spiking]
