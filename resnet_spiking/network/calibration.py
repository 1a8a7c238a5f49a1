"""Start a spiking stage from the trained one whose ReLUs its neurons replace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_spiking.network.modes import in_eval_mode
from resnet_spiking.network.spiking_stage import SpikingBlock, SpikingLayer, SpikingStage

GAINS = tuple(2.0**exponent for exponent in range(-6, 7))
"""What is tried for a gain, in units of 1 / sigma, the root mean square of a layer's pre-activation."""

SHIFTS = (0.0, -0.5, -1.0, -1.5)
"""What is tried for a shift beyond the one that matches the means, in units of sigma."""

LEAST_RATE, MOST_RATE = 0.02, 0.9


@torch.no_grad()
def calibrate(stage: SpikingStage, reference: nn.Sequential, maps: Tensor, generator: torch.Generator) -> None:
    """Set gains, shifts, shortcut weights and BatchNorm statistics of ``stage`` on maps ``[B, C, h, w]``.

    ``reference`` is the trained stage with ReLUs (in eval mode, fp32): its pre-activations ``z*`` and
    activations ``a = max(0, z*)`` on the same maps are what the neurons should represent by their
    rates ``r = mean_t s[t]``. Layer by layer, in the order of computation:

    - a BatchNorm that sees spikes takes its running statistics from them (time, batch, positions);
      one whose input is still the reference's keeps the reference's;
    - ``shift = mean(z*) - mean(z) + delta sigma`` and ``gain = g / sigma``, sigma the root mean square of ``z`` at
      ``delta = 0``. Of ``GAINS`` (2^-6 … 2^6) and ``SHIFTS`` (0 … -1.5) it is the pair whose rates correlate most
      with ``a``, found by turns (gain, shift, gain), among those with a mean rate of 2 % to 90 % where there
      are any. A neuron without threshold, which would fire half of the time where a ReLU is zero, finds
      one in the shift;
    - where the spikes are read as values (an identity shortcut, the pooling), their weight is the slope
      of the least-squares line, ``cov(r, a) / var(r)``.

    Nothing else changes. The idea is data-based normalisation (Diehl et al., IJCNN 2015; Rueckauer et al., Frontiers
    in Neuroscience 11:682, 2017) with a criterion that fits neurons with and without leak, reset,
    threshold or noise.
    """
    with in_eval_mode(stage):
        _calibrate(stage, reference, maps, generator)


def _calibrate(stage: SpikingStage, reference: nn.Sequential, maps: Tensor, generator: torch.Generator) -> None:
    steps = stage.config.num_steps
    signal, activation = stage.encode(maps, generator), maps
    weight = 1.0
    for block, original in zip(cast("Iterable[SpikingBlock]", stage.blocks), reference.children(), strict=True):
        if block.shortcut is not None:
            block.shortcut.fill_(weight)
        signals = [signal]
        for index, target in enumerate(preactivations(cast("BasicBlock | Bottleneck", original), activation)):
            activation = target.relu()
            z = _estimating(block, index, signals)
            choose(block.layers[index], z, target, steps, generator)
            signals.append(block.layers[index](z, steps, generator))
        signal = signals[-1]
        weight = slope(signal.mean(0), activation)
    stage.scale.fill_(weight)


@torch.no_grad()
def choose(layer: SpikingLayer, z: Tensor, target: Tensor, steps: int, generator: torch.Generator) -> None:
    """Set gain and shift of a layer with the pre-activation ``z`` to stand for the ReLU of ``target [B, C, h, w]``."""
    activation = target.relu()
    matched = float(target.mean() - z.mean())
    sigma = float((z.double() + matched).square().mean().sqrt().clamp_min(1e-12))

    def fit(gain: float, shift: float) -> float:
        layer.gain.fill_(gain / sigma)
        layer.shift.fill_(matched + shift * sigma)
        rates = layer(z, steps, generator).mean(0)
        usable = LEAST_RATE <= float(rates.mean()) <= MOST_RATE
        return correlation(rates, activation) - (0 if usable else 2)  # a usable one is better than any other

    gain = max(GAINS, key=lambda gain: fit(gain, SHIFTS[0]))
    shift = max(SHIFTS, key=lambda shift: fit(gain, shift))
    gain = max(GAINS, key=lambda gain: fit(gain, shift))
    fit(gain, shift)


def preactivations(block: BasicBlock | Bottleneck, maps: Tensor) -> list[Tensor]:
    """Return what enters each ReLU of a torchvision block, in order; the last is the residual sum."""
    found: list[Tensor] = []
    handle = block.relu.register_forward_pre_hook(lambda module, given: found.append(given[0].clone()))
    try:
        block(maps)
    finally:
        handle.remove()
    return found


def correlation(rates: Tensor, activation: Tensor) -> float:
    """Return Pearson's correlation of two tensors of one shape; -1 when one of them is constant."""
    r, a = rates.double() - rates.double().mean(), activation.double() - activation.double().mean()
    norm = float(r.norm() * a.norm())
    return float((r * a).sum()) / norm if norm > 0 else -1.0


def slope(rates: Tensor, activation: Tensor) -> float:
    """Return ``cov(r, a) / var(r)``, or 1 when the rates are constant."""
    r = rates.double() - rates.double().mean()
    power = float(r.square().sum())
    return float((r * activation.double()).sum()) / power if power > 0 else 1.0


def _estimating(block: SpikingBlock, index: int, signals: list[Tensor]) -> Tensor:
    """Return the layer's pre-activation, with the statistics of BatchNorms that see spikes taken from these."""
    norms = [getattr(block, f"bn{index + 1}")] if signals[index].ndim == 5 else []
    if index == block.depth - 1 and block.downsample is not None and signals[0].ndim == 5:
        norms.append(block.downsample[1])
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become this batch's
        norm.train()
    z = block.preactivation(index, signals)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return z
