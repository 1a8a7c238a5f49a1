"""Spiking decoder heads on a frozen pretrained ResNet: train, verify, compare.

The public names load on first use, so that ``--help`` and ``import resnet_spiking`` stay quick.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "RunConfig": "resnet_spiking.config",
    "UserError": "resnet_spiking.errors",
    "Dataset": "resnet_spiking.data.images",
    "ImageSet": "resnet_spiking.data.images",
    "load_dataset": "resnet_spiking.data.datasets",
    "features_of": "resnet_spiking.data.feature_cache",
    "Backbone": "resnet_spiking.network.backbone",
    "split_resnet": "resnet_spiking.network.backbone",
    "Classifier": "resnet_spiking.network.classifier",
    "Decoder": "resnet_spiking.network.classifier",
    "HeadConfig": "resnet_spiking.network.head",
    "LinearHead": "resnet_spiking.network.head",
    "SpikingHead": "resnet_spiking.network.head",
    "Environment": "resnet_spiking.training.environment",
    "train_run": "resnet_spiking.training.run",
    "fit": "resnet_spiking.training.loop",
    "score": "resnet_spiking.training.scoring",
    "load_network": "resnet_spiking.training.verify",
    "verify_run": "resnet_spiking.training.verify",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resnet_spiking' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
