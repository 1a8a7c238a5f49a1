"""Trained layers as a graph of the Neuromorphic Intermediate Representation, where it says exactly what they compute.

NIR's LIF is tau dv/dt = (v_leak - v) + R I with a spike above v_threshold and a reset to v_reset; its CubaLIF has a
synapse in front (Pedersen et al., Nature Communications 15, 2024). norse and snnTorch read both as one Euler step of
length dt, so that tau = dt/(1 - beta). Their importers treat a LIF's R differently (norse takes it as 1, snnTorch
scales the threshold by it), so R is 1 here and the gain 1/(1 - beta) goes into the weights of the layer before.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neurons.base import SMALLEST_THRESHOLD, Neuron
from neurons.bounded import bounded

if TYPE_CHECKING:
    import nir

STEP = 1e-4
"""dt in seconds. snnTorch's importer assumes it; norse's takes it: `norse.torch.from_nir(graph, dt=STEP)`."""

EXPRESSIBLE = (
    "lif",
    "snntorch-lif",
    "snntorch-synaptic",
    "norse-lifbox",
    "norse-lif",
    "spikingjelly-lif",
    "sinabs-lif",
)
"""The neurons that in shared mode, resetting to zero, compute what a NIR node says."""


def to_nir(layers: Iterable[nn.Module]) -> nir.NIRGraph:
    """The graph input -> layers -> output. `nir.write(path, graph)` stores it.

    Args:
        layers: `nn.Linear` layers and neurons, each neuron right after a Linear: of a spiking head with one hidden
            layer `[head.linears[0], head.neurons[0], head.output]`. A bias that is missing is zero.

    Raises:
        ImportError: nir is not installed, or older than 1.0.6: before, its LIF subtracts the threshold.
        TypeError: a layer is neither.
        ValueError: NIR or the importers cannot express a neuron; the message says why. No layers, a neuron without a
            Linear in front or of another width, a value that is not finite.
    """
    nir = _library()
    nodes: list[Any] = []
    width = 0
    linear: nn.Linear | None = None
    for position, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            if position == 0:
                nodes.append(nir.Input(input_type={"input": _array(torch.tensor([layer.in_features]))}))
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
            nodes.append(nir.Affine(weight=_array(layer.weight), bias=_array(bias)))
            linear, width = layer, layer.out_features
        elif isinstance(layer, Neuron):
            if linear is None:
                raise ValueError(
                    f"layers[{position}] ({layer.name}) must come after an nn.Linear, whose width it takes"
                )
            if layer.features not in (None, (1,), (width,)):
                raise ValueError(f"layers[{position}] ({layer.name}) has the features {layer.features}, not {width}")
            node, gain = _neuron(layer, width, nir)
            affine = nodes[-1]
            nodes[-1] = nir.Affine(weight=affine.weight * gain[:, None], bias=affine.bias * gain)
            nodes.append(node)
            linear = None
        else:
            raise TypeError(f"layers[{position}] must be an nn.Linear or a neuron, got {type(layer).__name__}")
    if not nodes:
        raise ValueError("layers must hold at least one layer, got none")
    nodes.append(nir.Output(output_type={"output": _array(torch.tensor([width]))}))
    return nir.NIRGraph.from_list(*nodes)


def _library() -> Any:
    try:
        import nir
    except ImportError as error:
        raise ImportError("NIR export needs nir: pip install 'resnet_spiking[nir]'", name="nir") from error
    if "v_reset" not in inspect.signature(nir.LIF).parameters:
        raise ImportError(
            f"NIR export needs nir >= 1.0.6, whose LIF resets to a value; the installed {nir.__version__} subtracts "
            "the threshold. sinabs (extra [peers]) keeps it there: use an environment without sinabs, "
            "pip install 'resnet_spiking[nir]'",
            name="nir",
        )
    return nir


def _neuron(neuron: Neuron, width: int, nir: Any) -> tuple[Any, Any]:
    """Its node, and the factor that the weights in front take."""

    def refuse(argument: str, value: object, reason: str) -> ValueError:
        return ValueError(f"{neuron.name} with {argument}={value!r} cannot be written as NIR: {reason}")

    if neuron.name not in EXPRESSIBLE:
        raise refuse("name", neuron.name, f"NIR has nodes for a resetting LIF; of the neurons {', '.join(EXPRESSIBLE)}")
    if neuron.mode != "shared":
        raise refuse("mode", neuron.mode, "only the shared equation is NIR's")
    if neuron.config.reset != "zero":
        raise refuse("reset", neuron.config.reset, "NIR's LIF resets to a value")
    values = neuron.effective_parameters()
    has_synapse = len(neuron.state_names) == 2
    found = {}
    for field in ("beta", "alpha", "threshold"):
        learned = neuron.learned(field)
        value = (
            torch.tensor(values[field] or 0.0, dtype=torch.float64) if learned is None else learned.detach().double()
        )
        value = bounded(value, *((SMALLEST_THRESHOLD, math.inf) if field == "threshold" else (0.0, 1.0)))
        if field != "threshold" and bool((value == 1).any()) and (field == "beta" or has_synapse):
            raise refuse(field, 1.0, "it has no time constant")
        found[field] = value.expand(width)
    beta, zero = found["beta"], _array(torch.zeros(width))
    level, gain = found["threshold"], torch.ones(width, dtype=torch.float64)
    if bool((level != level[0]).any()):
        # snnTorch reads one threshold for all neurons: a membrane that resets to zero may be counted in thresholds.
        level, gain = torch.ones_like(level), 1 / level
    threshold = _array(level)
    tau = _array(STEP / (1 - beta))
    if not has_synapse:
        node = nir.LIF(tau=tau, r=_array(torch.ones(width)), v_leak=zero, v_threshold=threshold, v_reset=zero)
        return node, _array(gain / (1 - beta))
    node = nir.CubaLIF(
        tau_mem=tau,
        tau_syn=_array(STEP / (1 - found["alpha"])),
        r=_array(1 / (1 - beta)),
        v_leak=zero,
        v_threshold=threshold,
        v_reset=zero,
        w_in=_array(1 / (1 - found["alpha"])),
    )
    return node, _array(gain)


def _array(tensor: Tensor) -> Any:
    """Raises ValueError: NaN or an infinite value in it."""
    if not tensor.isfinite().all():
        raise ValueError("layers must hold finite values, got NaN or an infinite one")
    # numpy has no bfloat16.
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()
