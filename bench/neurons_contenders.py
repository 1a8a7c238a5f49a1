"""Who is timed against whom: a function from the current [T, B, N] to the spikes for each contender, equal terms.

Equal terms: u[t] = 0.9 v[t-1] + x[t], a spike above 1, reset to zero outside the gradient, surrogate "atan" of slope 2.
The libraries are called as their documentation does it, not through our adapters, which would add their own time.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import spikingjelly_cupy
import torch
from torch import Tensor

from neurons import NeuronParameters, make_neuron
from neurons.surrogate import Surrogate, spike

BETA = 0.9
SURROGATE = Surrogate("atan", 2.0)
Contender = Callable[[Tensor], Tensor]


def _ours(name: str, device: str, alpha: float | None = None) -> Contender:
    neuron = make_neuron(name, NeuronParameters(alpha=alpha)).to(device)
    return lambda current: neuron(current)[0]


def _snntorch(device: str) -> Contender:
    from snntorch import Leaky, surrogate

    cell = Leaky(beta=BETA, reset_mechanism="zero", spike_grad=surrogate.atan(2.0)).to(device)

    def run(current: Tensor) -> Tensor:
        membrane, spikes = cell.reset_mem(), []
        for now in current:
            fired, membrane = cell(now, membrane)
            spikes.append(fired)
        return torch.stack(spikes)

    return run


def _norse(device: str) -> Contender:
    """Its reset carries a gradient and its surrogate is 1/(1 + |x|)^2: that cannot be chosen, and costs the same."""
    from norse.torch import LIFBoxCell, LIFBoxParameters

    cell = LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(1 - BETA, device=device)), dt=1.0).to(device)

    def run(current: Tensor) -> Tensor:
        state, spikes = None, []
        for now in current / (1 - BETA):
            fired, state = cell(now, state)
            spikes.append(fired)
        return torch.stack(spikes)

    return run


def _spikingjelly(device: str) -> Contender:
    from spikingjelly.activation_based import neuron, surrogate

    return _spikingjelly_node(neuron, surrogate, device)


def _spikingjelly_node(neuron: Any, surrogate: Any, device: str, **options: object) -> Contender:
    node = neuron.LIFNode(
        tau=1 / (1 - BETA),
        decay_input=False,
        detach_reset=True,
        surrogate_function=surrogate.ATan(2.0),
        step_mode="m",
        **options,
    ).to(device)

    def run(current: Tensor) -> Tensor:
        node.reset()
        spikes: Tensor = node(current)
        return spikes

    return run


def _sinabs(device: str) -> Contender:
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.layers import LIF

    layer = LIF(tau_mem=-1 / math.log(BETA), norm_input=False, spike_fn=SingleSpike, reset_fn=MembraneReset())
    layer = layer.to(device)

    def run(current: Tensor) -> Tensor:
        layer.reset_states()
        spikes: Tensor = layer(current.transpose(0, 1)).transpose(0, 1)
        return spikes

    return run


def paralif_fft(current: Tensor, alpha: float | None = None) -> Tensor:
    """ParaLIF-T as its paper has it: the current convolved with the membrane's response by FFT, then the threshold.

    The response, the two decays combined, is cut to T steps; with 2 T points nothing then wraps around.
    """
    steps = current.shape[0]
    times = torch.arange(steps, dtype=current.dtype, device=current.device)
    response = BETA**times
    if alpha is not None:
        response = (BETA ** (times + 1) - alpha ** (times + 1)) / (BETA - alpha)
    spectrum = torch.fft.rfft(current, 2 * steps, dim=0) * torch.fft.rfft(response, 2 * steps).reshape(-1, 1, 1)
    membrane = torch.fft.irfft(spectrum, 2 * steps, dim=0)[:steps]
    return spike(membrane - 1, SURROGATE)


def five_copies(current: Tensor) -> Tensor:
    """The yardstick: five copies of the current, kept at once."""
    return [current.detach().clone() for _ in range(5)][-1]


def contenders(device: str) -> dict[str, Contender]:
    """All that are installed, by name; `FIRES_LIKE` has those that must spike like another.

    SpikingJelly 2.0 chooses its backend by device: torch on a CPU, Triton on CUDA (its own CUDA kernels where it was
    built from source with them).
    """
    found = {
        "lif": _ours("lif", device),
        "lif, synapse": _ours("lif", device, 0.8),
        "paralif-t": _ours("paralif-t", device),
        "paralif-t, synapse": _ours("paralif-t", device, 0.8),
        "paralif-t by FFT": paralif_fft,
        "paralif-t by FFT, synapse": partial(paralif_fft, alpha=0.8),
        "snntorch": _snntorch(device),
        "norse": _norse(device),
    }
    if importlib.util.find_spec("spikingjelly"):
        found["spikingjelly"] = _spikingjelly(device)
    if device != "cpu" and spikingjelly_cupy.available():
        found["spikingjelly cupy"] = _spikingjelly_node(*spikingjelly_cupy.load(), device, backend="cupy")
    if importlib.util.find_spec("sinabs"):
        found["sinabs"] = _sinabs(device)
    return found


FIRES_LIKE = {
    "snntorch": "lif",
    "norse": "lif",
    "spikingjelly": "lif",
    "spikingjelly cupy": "lif",
    "sinabs": "lif",
    "paralif-t by FFT": "paralif-t",
    "paralif-t by FFT, synapse": "paralif-t, synapse",
}


def settle_allocator() -> None:
    """Free one large block: from then on glibc keeps blocks of that size, as it does in any process that trained."""
    torch.empty(7_000_000)
