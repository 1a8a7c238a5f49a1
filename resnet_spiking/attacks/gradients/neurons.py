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


def spiking_neurons(model: nn.Module) -> list[Neuron]:
    """Return the spiking neurons inside ``model``; none for a model without spikes, which is differentiated as it is.

    Raises ``UserError`` when a spiking layer comes straight from a library: no mode reaches it, and an
    attack "under another surrogate" would silently keep the layer's own.
    """
    for name, module in model.named_modules():
        for ancestor in type(module).__mro__:
            if (ancestor.__module__.split(".")[0], ancestor.__name__) in _LIBRARY_NEURONS:
                raise UserError(
                    f"the gradient of {name or 'the model'} ({ancestor.__module__}.{type(module).__name__}) cannot "
                    "be replaced; make the layer with neurons.make_neuron, or attack with the gradient mode 'own'"
                )
    return [module for module in model.modules() if isinstance(module, Neuron) and module.spiking]
