"""The names of the neurons, without importing torch.

Command lines list names and check `--neuron` before anything heavy is imported, so this module uses the standard
library alone. `neurons.registry` turns a name into a module.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from importlib import metadata

ENTRY_POINT_GROUP = "resnet_spiking.neurons"
"""An installed package that offers an entry point of this group has its neuron in `list_neurons()` by itself."""

CONTROL = "relu"
"""The head without spikes, which the others are compared with."""

PARALIF_MODES = ("gs", "sb", "trb", "d", "sd", "td", "trd", "t", "st", "tt", "trt")


@dataclass(frozen=True)
class Entry:
    """One row of the registry: where a neuron's class is (`module:attribute`), and one line about it."""

    target: str
    summary: str


_PARALIF_SUMMARIES = {
    "gs": "ParaLIF (no reset), Gumbel-softmax spikes",
    "sb": "ParaLIF (no reset), Bernoulli spikes of the sigmoid of the membrane",
    "trb": "ParaLIF (no reset), Bernoulli spikes of relu(tanh(membrane))",
    "d": "ParaLIF (no reset), spikes where the membrane rises by more than a step",
    "sd": "ParaLIF (no reset), delta spikes of the sigmoid of the membrane",
    "td": "ParaLIF (no reset), delta spikes of the tanh of the membrane",
    "trd": "ParaLIF (no reset), delta spikes of relu(tanh(membrane))",
    "t": "ParaLIF (no reset), spikes above the threshold",
    "st": "ParaLIF (no reset), threshold on the sigmoid of the membrane",
    "tt": "ParaLIF (no reset), threshold on the tanh of the membrane",
    "trt": "ParaLIF (no reset), threshold on relu(tanh(membrane))",
}

_BUILT_IN: dict[str, Entry] = {
    "lif": Entry("neurons.lif:LIF", "our multi-step LIF, with or without a synapse"),
    "snntorch-lif": Entry("neurons.adapters.snntorch:SnnTorchLIF", "snntorch.Leaky"),
    "snntorch-synaptic": Entry("neurons.adapters.snntorch:SnnTorchSynaptic", "snntorch.Synaptic, a LIF with a synapse"),
    "norse-lifbox": Entry("neurons.adapters.norse:NorseLIFBox", "norse LIFBoxCell"),
    "norse-lif": Entry("neurons.adapters.norse:NorseLIF", "norse LIFCell, a LIF with a synapse"),
    **{f"paralif-{mode}": Entry("neurons.paralif:ParaLIF", _PARALIF_SUMMARIES[mode]) for mode in PARALIF_MODES},
    CONTROL: Entry("neurons.relu:ReLU", "control: the same head without spikes"),
}

_PEERS: dict[str, Entry] = {
    "spikingjelly-lif": Entry("neurons.adapters.spikingjelly:SpikingJellyLIF", "spikingjelly LIFNode, extra [peers]"),
    "sinabs-lif": Entry("neurons.adapters.sinabs:SinabsLIF", "sinabs LIF, with or without a synapse, extra [peers]"),
}

NEURONS: tuple[str, ...] = tuple(_BUILT_IN)
"""The built-in neurons, which every installation can make; `list_neurons` adds `PEERS` and registered ones."""

PEERS: tuple[str, ...] = tuple(_PEERS)
"""Built-in neurons whose libraries come with the extra `[peers]`."""

_registered: dict[str, Entry] = {}


def add_name(name: str, entry: Entry) -> None:
    """Put `name` on the list. `neurons.register` calls this.

    Raises:
        TypeError: `name` is not a string.
        ValueError: `name` is empty or taken.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if not name or name != name.strip():
        raise ValueError(f"name must be a word without spaces around it, got {name!r}")
    if name in entries():
        raise ValueError(f"name {name!r} is taken; the registered neurons are {', '.join(list_neurons())}")
    _registered[name] = entry


def remove_name(name: str) -> None:
    """Take a name that `add_name` added off the list; built-in names stay.

    Raises:
        ValueError: `name` was not added with `add_name`.
    """
    if name not in _registered:
        raise ValueError(f"name {name!r} was not registered here; registered: {sorted(_registered)}")
    del _registered[name]


def entries() -> dict[str, Entry]:
    """Every known neuron by name: built-in, registered in this process, offered by installed packages."""
    found = {**_BUILT_IN, **_PEERS}
    for name, entry in _installed():
        found.setdefault(name, entry)
    found.update(_registered)
    return found


def list_neurons() -> list[str]:
    """Names that `make_neuron` accepts, built-in ones first. Imports neither torch nor a neuron library."""
    return list(entries())


def check_name(name: str) -> str:
    """Return `name` if a neuron has it.

    Raises:
        TypeError: `name` is not a string.
        ValueError: no neuron has this name; the message lists the names and the nearest one.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    known = list_neurons()
    if name not in known:
        raise ValueError(unknown("neuron", name, known))
    return name


def version_of(library: str) -> str:
    """The installed version of a neuron's library; `neurons` itself has that of the package that brings it."""
    try:
        return metadata.version("resnet-spiking" if library == "neurons" else library)
    except metadata.PackageNotFoundError:  # our own package, run from a checkout that is not installed
        return "unknown"


def unknown(what: str, given: str, known: list[str]) -> str:
    """The message for a word that is on no list: the nearest word, then the list."""
    nearest = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {what} {given!r}.{hint} Accepted: {', '.join(known)}"


@functools.cache
def _installed() -> tuple[tuple[str, Entry], ...]:
    # Cached: reading every installed package's metadata takes longer than anything else here.
    return tuple(
        (point.name, Entry(point.value, f"from {point.dist.name if point.dist else point.value}"))
        for point in metadata.entry_points(group=ENTRY_POINT_GROUP)
    )
