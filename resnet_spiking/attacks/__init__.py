"""White-box and black-box attacks on any classifier of pixels in [0, 1]; ``attack`` is the one call.

The public names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "attack": "resnet_spiking.attacks.api",
    "minimum_norm": "resnet_spiking.attacks.api",
    "MinimumNorm": "resnet_spiking.attacks.minimum",
    "Outcome": "resnet_spiking.attacks.best",
    "Target": "resnet_spiking.attacks.target",
    "Threat": "resnet_spiking.attacks.threat",
    "attackable": "resnet_spiking.attacks.target",
    "make_mode": "resnet_spiking.attacks.gradients.names",
    "make_target": "resnet_spiking.attacks.target",
    "parse_eps": "resnet_spiking.attacks.threat",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resnet_spiking.attacks' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
