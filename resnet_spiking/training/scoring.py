"""Accuracy, loss and spike rates of a network on a whole split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.network.arithmetic import plain_arithmetic
from resnet_spiking.network.modes import in_eval_mode
from resnet_spiking.randomness import generator_for

# Features are cached in blocks of the same size: scoring the cache and scoring pixels then agree bit for bit.
BATCH = 256

# A network whose stages run over time holds T maps an image: it takes a block in parts.
PART_OVER_TIME = 64


class Traceable(Protocol):
    """A network, or a head alone, that returns logits with each layer's spikes."""

    def trace(self, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]: ...


@dataclass(frozen=True)
class Score:
    """Accuracy in [0, 1], mean cross-entropy in nats, mean spikes per neuron and step of each layer."""

    accuracy: float
    loss: float
    rates: tuple[float, ...]
    predictions: tuple[int, ...]

    def figures(self) -> dict[str, object]:
        return {"accuracy": self.accuracy, "loss": self.loss, "spike_rates": list(self.rates)}


@torch.no_grad()
@plain_arithmetic()
def score(
    network: nn.Module, source: FeatureSource, seed: int, progress: Callable[[int, int], None] | None = None
) -> Score:
    """Score ``network`` on every image of ``source``.

    A stochastic head is scored on one draw per image, from generators that depend on ``seed``
    alone, so a later process gets the same draw. ``network`` has ``trace`` (see ``Traceable``), scores in eval mode and
    is left in the modes it had.

    Raises ``NaNError`` when a current or a membrane is not a number.
    """
    part = PART_OVER_TIME if getattr(network, "on_maps", False) else BATCH
    predictions: list[Tensor] = []
    loss, rates, seen = 0.0, torch.zeros(0), 0
    with in_eval_mode(network):
        for index, chosen in enumerate(torch.arange(len(source)).split(BATCH)):
            draw = generator_for(seed, "score", index, device=source.device)
            labels = source.images.labels[chosen].to(source.device)
            for features, wanted in zip(source.batch(chosen).split(part), labels.split(part), strict=True):
                logits, layers = cast(Traceable, network).trace(features, draw)
                loss += float(functional.cross_entropy(logits.double(), wanted, reduction="sum"))
                part_rates = torch.tensor([float(spikes.double().mean()) for spikes in layers])
                rates = part_rates * len(wanted) + (rates if len(rates) else 0)
                predictions.append(logits.argmax(1).cpu())
            seen += len(chosen)
            if progress:
                progress(seen, len(source))
    predicted = torch.cat(predictions)
    accuracy = float((predicted == source.images.labels).double().mean())
    return Score(accuracy, loss / seen, tuple((rates / seen).tolist()), tuple(predicted.tolist()))
