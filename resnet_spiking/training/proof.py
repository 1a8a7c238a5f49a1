"""The proof that a network spikes, measured on its own test images: when it is trained, and when it is verified."""

from __future__ import annotations

from typing import Any

from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.evidence import gather_evidence, is_spiking
from resnet_spiking.randomness import generator_for


def prove(network: Decoder, test: FeatureSource, seed: int, *, pooled: bool = False) -> dict[str, Any]:
    """Return what a result records as ``evidence`` of a spiking variant, or that it is a control without spikes.

    ``network`` is in eval mode and fp32; ``test`` has what it takes, or, ``pooled``, what its head takes.
    """
    head: Any = network.head
    if not is_spiking(head):
        return {"spikes": False, "reason": "a control without spikes"}
    # T maps of every layer and their graph are held at once: fewer images where stage 4 spikes too.
    sample = test.images.balanced(32 if network.on_maps else 256)
    features = test.batch(sample)
    evidence = gather_evidence(
        head,
        features if pooled else network.pool(features).detach(),
        test.images.labels[sample].to(test.device),
        generator_for(seed, "evidence", device=test.device),
    )
    return evidence.as_dict()
