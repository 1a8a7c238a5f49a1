"""From a name to a neuron. Imports no torch until a neuron is made."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from neurons import names
from neurons.parameters import DEFAULTS, MODES, Mode, NeuronParameters, check_word

if TYPE_CHECKING:
    from neurons.base import Neuron

    Factory = Callable[..., Neuron]

_INSTALLED_BY = {
    "snntorch": "snntorch",
    "norse": "norse",
    "spikingjelly": "'resnet_spiking[peers]'",
    "sinabs": "'resnet_spiking[peers]'",
}

_factories: dict[str, Callable[..., Any]] = {}


def make_neuron(
    name: str,
    parameters: NeuronParameters = DEFAULTS,
    *,
    mode: Mode = "shared",
    features: int | tuple[int, ...] | None = None,
) -> Neuron:
    """Make the neuron called `name`.

    Args:
        name: one of `list_neurons()`.
        parameters: what to compute, per time step. In native mode only the fields that differ from the defaults of
            `NeuronParameters` reach the library, which fills in its own; `native_parameters(name)` tells them.
        mode: "shared": the one equation of `NeuronParameters`, refused where the library cannot express it;
            "native": the library as its users get it.
        features: the shape of one sample at one step, [*features]. With it, learnable values are one per neuron
            (a 1 shares a value along that dimension), without it one for the layer.

    Raises:
        TypeError, ValueError: an argument is wrong, with what is accepted; or the neuron cannot express `parameters`.
        ImportError: the neuron's library is not installed; the message has the command that installs it.
    """
    check_word("mode", mode, MODES)
    names.check_name(name)
    if not isinstance(parameters, NeuronParameters):
        raise TypeError(f"parameters must be NeuronParameters, got {type(parameters).__name__}")
    try:
        return _factory(name)(name, parameters, mode=mode, features=features)
    except ModuleNotFoundError as error:
        if error.name not in _INSTALLED_BY:
            raise  # a fault inside a neuron, not a library that is left out
        message = f"{name} needs {error.name}, which is not installed: pip install {_INSTALLED_BY[error.name]}"
        raise ImportError(message, name=error.name) from error


def register(name: str, factory: Factory, summary: str = "registered in this process") -> None:
    """Make a neuron of your own available by name, beside the built-in ones.

    An installed package needs no call: an entry point of the group `resnet_spiking.neurons` is found by itself.

    Args:
        name: a new name.
        factory: called as `factory(name, parameters, mode=..., features=...)`, returns a `Neuron`; a subclass of
            `Neuron` with that constructor is one.
        summary: one line for the list.

    Raises:
        TypeError: `factory` cannot be called.
        ValueError: the name is taken.
    """
    if not callable(factory):
        raise TypeError(f"factory must be callable, got {type(factory).__name__}")
    names.add_name(name, names.Entry("", summary))
    _factories[name] = factory


def unregister(name: str) -> None:
    """Take back a `register`.

    Raises:
        ValueError: the name was not registered with `register`.
    """
    names.remove_name(name)
    del _factories[name]


def native_parameters(name: str) -> dict[str, Any]:
    """The values in force when `name` is made in native mode without any parameter: the library's own defaults.

    Raises:
        TypeError, ValueError, ImportError: as `make_neuron`.
    """
    return make_neuron(name, mode="native").effective_parameters()


def _factory(name: str) -> Callable[..., Any]:
    if name in _factories:
        return _factories[name]
    factory: Callable[..., Any] = EntryPoint(name, names.entries()[name].target, names.ENTRY_POINT_GROUP).load()
    return factory
