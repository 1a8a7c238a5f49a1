"""White-box and black-box attacks on any classifier of pixels in [0, 1]; ``attack`` is the one call.

The public names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_spiking.attacks.api import attack, minimum_norm
    from resnet_spiking.attacks.best import Outcome
    from resnet_spiking.attacks.bundles import BUNDLES, find_bundle
    from resnet_spiking.attacks.evaluation import evaluate
    from resnet_spiking.attacks.gradients.names import list_modes, make_mode
    from resnet_spiking.attacks.minimum import MinimumNorm
    from resnet_spiking.attacks.names import ATTACKS
    from resnet_spiking.attacks.settings import Settings, make_settings
    from resnet_spiking.attacks.subjects import load_sample, load_subjects
    from resnet_spiking.attacks.target import Target, attackable, make_target
    from resnet_spiking.attacks.threat import Threat, parse_eps
    from resnet_spiking.attacks.verify import verify_result

_HOMES = {
    "ATTACKS": "resnet_spiking.attacks.names",
    "BUNDLES": "resnet_spiking.attacks.bundles",
    "MinimumNorm": "resnet_spiking.attacks.minimum",
    "Outcome": "resnet_spiking.attacks.best",
    "Settings": "resnet_spiking.attacks.settings",
    "Target": "resnet_spiking.attacks.target",
    "Threat": "resnet_spiking.attacks.threat",
    "attack": "resnet_spiking.attacks.api",
    "attackable": "resnet_spiking.attacks.target",
    "evaluate": "resnet_spiking.attacks.evaluation",
    "find_bundle": "resnet_spiking.attacks.bundles",
    "list_modes": "resnet_spiking.attacks.gradients.names",
    "load_sample": "resnet_spiking.attacks.subjects",
    "load_subjects": "resnet_spiking.attacks.subjects",
    "make_mode": "resnet_spiking.attacks.gradients.names",
    "make_settings": "resnet_spiking.attacks.settings",
    "make_target": "resnet_spiking.attacks.target",
    "minimum_norm": "resnet_spiking.attacks.api",
    "parse_eps": "resnet_spiking.attacks.threat",
    "verify_result": "resnet_spiking.attacks.verify",
}

__all__ = [
    "ATTACKS",
    "BUNDLES",
    "MinimumNorm",
    "Outcome",
    "Settings",
    "Target",
    "Threat",
    "attack",
    "attackable",
    "evaluate",
    "find_bundle",
    "list_modes",
    "load_sample",
    "load_subjects",
    "make_mode",
    "make_settings",
    "make_target",
    "minimum_norm",
    "parse_eps",
    "verify_result",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnet_spiking.attacks' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
