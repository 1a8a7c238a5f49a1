"""What a spiking head does over time on one image: the raster of its first layer and a few membranes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neurons import Neuron
from neurons.unroll import State
from resnet_spiking.data.images import ImageSet
from resnet_spiking.randomness import generator_for
from resnet_spiking.storage.arrays import save_arrays
from resnet_spiking.studies.intact import TRACES
from resnet_spiking.training.verify import load_network

NEURONS, MEMBRANES = 64, 8


@dataclass(frozen=True)
class Trace:
    """Spikes ``uint8 [T, N <= 64]`` and membranes after each step ``float16 [T, <= 8]`` of the head's first neurons,
    and the image ``uint8 [3, H, W]`` that they saw."""

    spikes: NDArray[np.uint8]
    membrane: NDArray[np.float16]
    image: NDArray[np.uint8]


@torch.no_grad()
def trace_run(run: Path, images: ImageSet, index: int = 0) -> Trace:
    """Run the network of a finished run's folder on one image, in fp32, and return what its first layer does.

    The membrane is the first part of the neuron's state, after the reset; it is read by feeding
    the layer's current step by step, which gives the same spikes as all steps at once.
    """
    backbone, decoder, config = load_network(run)
    neuron = cast("Neuron", decoder.head.neurons[0])  # type: ignore[index]
    pixels = images.pixels(torch.tensor([index]))
    current = _input_of(neuron, lambda: decoder(backbone(pixels), _draw(config.branch_seed)))
    draw = _draw(config.branch_seed)
    state: State | None = None
    spikes, membranes = [], []
    for step in current.split(1):
        fired, state = neuron(step, state, generator=draw)
        spikes.append(fired[0, 0].flatten()[:NEURONS])
        membranes.append((state[0] if state else step[0])[0].flatten()[:MEMBRANES])
    image = images.images[index]
    return Trace(
        torch.stack(spikes).numpy().astype(np.uint8),
        torch.stack(membranes).numpy().astype(np.float16),
        image.expand(3, *image.shape[1:]).numpy().copy(),
    )


def keep_traces(run: Path, images: ImageSet) -> None:
    """Store the trace of the first test image as ``traces.npz`` in a run's folder, once."""
    if (run / TRACES).exists():
        return
    trace = trace_run(run, images)
    save_arrays(
        run / TRACES, {"spikes": trace.spikes, "membrane": trace.membrane, "image": trace.image}, compressed=True
    )


def _draw(seed: int) -> torch.Generator:
    return generator_for(seed, "traces")


def _input_of(module: nn.Module, call: Any) -> Tensor:
    """Return the first tensor ``[T, B, ...]`` that reaches ``module`` during ``call()``."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    try:
        call()
    finally:
        handle.remove()
    return seen[0]
