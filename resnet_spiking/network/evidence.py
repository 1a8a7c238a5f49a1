"""Evidence that a head spikes: measured on its own inputs, recorded with every result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from resnet_spiking.network.head import LinearHead, SpikingHead
from resnet_spiking.network.spiking_stage import SpikingStage

SILENT, SATURATED = 0.001, 0.95


@dataclass(frozen=True)
class SpikeEvidence:
    """What was measured on one batch.

    ``binary``: every value that leaves a neuron is 0 or 1. ``logits_from_spikes``: the largest
    difference between the logits and those recomputed from the last layer's spikes alone.
    ``logits_when_cut``: the largest difference between any two inputs' logits once those spikes
    are set to zero. ``untrained``: trainable parameters of the head that no
    gradient reaches, and ``features`` when none reaches the stages below it. ``rates``: spikes per
    neuron and step of each layer, by name.
    """

    binary: bool
    logits_from_spikes: float
    logits_when_cut: float
    untrained: tuple[str, ...]
    rates: dict[str, float]

    @property
    def spikes(self) -> bool:
        return self.binary and self.logits_from_spikes <= 1e-5 and self.logits_when_cut == 0 and not self.untrained

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "spikes": self.spikes}


def gather_evidence(
    head: SpikingHead | SpikingStage, features: Tensor, labels: Tensor, generator: torch.Generator | None = None
) -> SpikeEvidence:
    """Measure ``SpikeEvidence`` of a head on what it takes, with the labels ``[B]``.

    That is pooled features ``[B, F]``, or maps ``[B, C, h, w]`` for stage 4 and its head.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        logits, layers = head.trace(features, generator)
        trained = {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}
        parameters = {**trained, "features": features}
        gradients = torch.autograd.grad(
            functional.cross_entropy(logits, labels), list(parameters.values()), allow_unused=True
        )
    untrained = tuple(
        name
        for name, gradient in zip(parameters, gradients, strict=True)
        if gradient is None or not gradient.isfinite().all() or not gradient.any()
    )
    with torch.no_grad():
        recomputed = head.logits(layers[-1].detach())
        cut = head.logits(torch.zeros_like(layers[-1]))
        return SpikeEvidence(
            binary=all(bool(((spikes == 0) | (spikes == 1)).all()) for spikes in layers),
            logits_from_spikes=float((recomputed - logits).abs().max()),
            logits_when_cut=float((cut - cut[:1]).abs().max()),
            untrained=untrained,
            rates={name: float(spikes.double().mean()) for name, spikes in zip(head.layer_names, layers, strict=True)},
        )


def rate_warnings(rates: Sequence[float], names: Sequence[str]) -> list[str]:
    """Return a line for each layer whose spike rate says that it is silent or saturated."""
    return [
        f"{name} spikes at {rate:.3%} of its steps: {'silent' if rate < SILENT else 'saturated'}; "
        "change --beta, --threshold or --lr"
        for name, rate in zip(names, rates, strict=True)
        if not SILENT <= rate <= SATURATED
    ]


def head_warnings(head: LinearHead | SpikingHead | SpikingStage, rates: Sequence[float]) -> list[str]:
    """Return ``rate_warnings`` of a head's layers; none of a head without neurons that fire."""
    return rate_warnings(rates, head.layer_names) if is_spiking(head) else []  # type: ignore[arg-type]


def is_spiking(head: LinearHead | SpikingHead | SpikingStage) -> bool:
    """Say whether the head has neurons that fire (the ``relu`` control and Default have none)."""
    return bool(head.spiking)
