"""Synaptic operations and an energy estimate, counted while a network runs, under NeuroBench's names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from neurons.base import Neuron
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.head import SpikingHead
from resnet_spiking.network.spiking_stage import SpikingStage

PICOJOULE_PER_AC = 0.9
PICOJOULE_PER_MAC = 4.6
"""fp32 addition, and multiplication with addition (3.7 + 0.9), in 45 nm at 0.9 V (Horowitz, ISSCC 2014)."""


class Operations(NamedTuple):
    """Operations of one layer on one input: with nonzero input and weight, all, and whether the input is spikes."""

    effective: int
    dense: int
    spikes: bool


@dataclass
class Tally:
    """Sums over everything that ran. Parameters are counted once, the rest for each image."""

    acs: int = 0
    macs: int = 0
    dense: int = 0
    active: int = 0
    activations: int = 0
    membrane_updates: int = 0
    parameters: int = 0

    def add(self, found: Operations) -> None:
        self.dense += found.dense
        if found.spikes:
            self.acs += found.effective
        else:
            self.macs += found.effective

    def per_image(self, images: int) -> dict[str, Any]:
        """Return the figures per image, as ``OperationCounter.figures`` describes them."""
        acs, macs = self.acs / images, self.macs / images
        return {
            "Effective_ACs": acs,
            "Effective_MACs": macs,
            "Dense": self.dense / images,
            "ActivationSparsity": 1 - self.active / self.activations if self.activations else 0.0,
            "MembraneUpdates": self.membrane_updates / images,
            "ParameterCount": self.parameters,
            "energy_nJ": (PICOJOULE_PER_AC * acs + PICOJOULE_PER_MAC * macs) / 1000,
        }


@dataclass
class OperationCounter:
    """What ``counting`` found: in the head, and in the stages below it (spiking stage 4 among them)."""

    head: Tally
    stages: Tally

    def figures(self, images: int) -> dict[str, Any]:
        """Return the head's figures per image, and the stages' under ``stages`` where there are any.

        ``Effective_ACs`` and ``Effective_MACs``: products of a nonzero input and a nonzero weight in linear layers
        and convolutions, an AC where all inputs of the layer are spikes (0, 1), else a MAC. ``Dense``:
        the same with zeros. Biases, BatchNorm (an affine map that folds into the convolution),
        residual sums and the neurons' own arithmetic are not counted. ``ActivationSparsity``: share of zeros
        among the outputs of ReLUs and neurons (0 where there are none). ``MembraneUpdates``: neurons times
        steps. ``ParameterCount``: of this part. ``energy_nJ``: 0.9 pJ per AC and 4.6 pJ per MAC (Horowitz,
        "Computing's energy problem", ISSCC 2014, 45 nm), an estimate of arithmetic alone: memory, which costs
        more, is left out.

        Definitions of Yik et al., "NeuroBench", Nature Communications 16, 2025, and of its package
        (neurobench 2.3.0). What runs is what counts: a product with an input that is constant in time is done
        once, not T times; the output layer is counted as event-driven hardware runs it, an AC for each
        spike and weight.
        """
        stages = {"stages": self.stages.per_image(images)} if self.stages.dense else {}
        return {**self.head.per_image(images), **stages}


@contextmanager
def counting(network: nn.Module) -> Iterator[OperationCounter]:
    """Count the operations of every forward pass of ``network``, a decoder or a head, inside the ``with`` block."""
    outer = network.head if isinstance(network, Decoder) else network
    head = outer.head if isinstance(outer, SpikingStage) else outer
    inner = set(head.modules())
    below = [module for module in network.modules() if module not in inner]
    counter = OperationCounter(_tally(inner), _tally(below))
    handles: list[RemovableHandle] = []
    read_out = {head.output} if isinstance(head, SpikingHead) else set()
    for modules, tally in ((inner, counter.head), (below, counter.stages)):
        for module in modules:
            if module in read_out:
                continue
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                handles.append(module.register_forward_pre_hook(partial(_on_product, tally)))
            elif isinstance(module, (nn.ReLU, Neuron)):
                handles.append(module.register_forward_hook(partial(_on_activation, tally)))
    if isinstance(head, SpikingHead):
        # Its output layer is called once on a sum over time, or not at all: count what its spikes cost instead.
        handles.append(head.neurons[-1].register_forward_hook(partial(_on_last_spikes, counter.head, head.output)))
    try:
        yield counter
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def operations_of(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Operations:
    """Count the operations of a linear layer on ``[..., F]`` or of a convolution on ``[B, C, h, w]``.

    Operations are linear in the pattern of nonzero inputs and in that of nonzero weights. So the
    pattern is summed over the rows (images, steps) first, and the weights over the outputs.
    """
    active = inputs.detach() != 0
    weights = (layer.weight.detach() != 0).double()
    spikes = bool((~active | (inputs == 1)).all())
    if isinstance(layer, nn.Linear):
        rows = active.flatten(0, -2)
        products = rows.sum(0).double() @ weights.sum(0)
        return Operations(round(float(products)), len(rows) * weights.numel(), spikes)
    counts = active.sum(0, keepdim=True).double()
    effective, dense = (
        _convolved(layer, pattern, kernel)
        for pattern, kernel in ((counts, weights), (torch.ones_like(counts), torch.ones_like(weights)))
    )
    return Operations(effective, dense * len(inputs), spikes)


def _convolved(layer: nn.Conv2d, pattern: Tensor, kernel: Tensor) -> int:
    outputs = kernel.unflatten(0, (layer.groups, -1)).sum(1)  # one output per group
    found = functional.conv2d(pattern, outputs, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return round(float(found.sum()))


def _tally(modules: set[nn.Module] | list[nn.Module]) -> Tally:
    return Tally(parameters=sum(p.numel() for module in modules for p in module.parameters(recurse=False)))


def _on_product(tally: Tally, layer: nn.Linear | nn.Conv2d, given: tuple[Tensor, ...]) -> None:
    tally.add(operations_of(layer, given[0]))


def _on_activation(tally: Tally, layer: nn.ReLU | Neuron, given: object, output: Any) -> None:
    values = output[0] if isinstance(layer, Neuron) else output
    tally.activations += values.numel()
    tally.active += int(torch.count_nonzero(values))
    if isinstance(layer, Neuron) and layer.spiking:
        tally.membrane_updates += values.numel()


def _on_last_spikes(tally: Tally, readout: nn.Linear, neuron: Neuron, given: object, output: Any) -> None:
    # Without spikes there are no events: the sum over time is read once.
    tally.add(operations_of(readout, output[0] if neuron.spiking else output[0].sum(0)))
