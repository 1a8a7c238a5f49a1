"""What all runs on one frozen trunk share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnet_spiking.config import RunConfig, content_key
from resnet_spiking.data.feature_cache import FeatureSource, features_of, keep_features
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import PLAIN, Views
from resnet_spiking.environment import Environment
from resnet_spiking.network.build import Trunk, build_trunk
from resnet_spiking.network.weights import check_bundled_target
from resnet_spiking.storage.files import file_sha256


@dataclass(frozen=True)
class Frozen:
    """What all runs on one frozen trunk share: the data, the trunk, the features of both splits."""

    data: Dataset
    trunk: Trunk
    train: FeatureSource
    test: FeatureSource


def shared_key(config: RunConfig, data: Dataset, env: Environment) -> tuple[object, ...]:
    """Return what the frozen part and the Default on it depend on, for ``Environment.remember``."""
    return (content_key(config.default_part()), data.sha256, env.device)


def remember_trunk(config: RunConfig, data: Dataset, env: Environment) -> Trunk:
    """Return the trunk on its device, from the environment's memory where a run of this process left it.

    Raises ``UserError`` for weights that are missing, damaged or have seen the labels.
    """
    trunk: Trunk = env.remember(("trunk", *shared_key(config, data, env)), lambda: _load_trunk(config, data, env))
    return trunk


def check_weights(config: RunConfig, env: Environment) -> None:
    """Raise ``UserError`` for weights that are missing, damaged or of another network, before data is read."""
    key = ("weights", config.weights, config.backbone, config.freeze_depth, config.image_size)
    env.remember(key, lambda: build_trunk(config, config.weights).identity)


def remember_frozen(config: RunConfig, data: Dataset, trunk: Trunk, env: Environment) -> Frozen:
    """Return the frozen part, from the environment's memory where a run of this process left it."""
    key = ("frozen", *shared_key(config, data, env))
    frozen: Frozen = env.remember(key, lambda: open_frozen(config, data, trunk, env))
    return frozen


def _load_trunk(config: RunConfig, data: Dataset, env: Environment) -> Trunk:
    if config.weights == "bundled":
        check_bundled_target(data.name, data.classes)
    trunk = build_trunk(config, config.weights)
    for part in (trunk.backbone, trunk.stages):
        part.to(env.device).to(memory_format=torch.channels_last)
    return trunk


def open_frozen(config: RunConfig, data: Dataset, trunk: Trunk, env: Environment) -> Frozen:
    """Open the frozen features of both splits, computing those that no cache holds."""
    if trunk.identity.random:
        env.report(f"starting from random weights: {', '.join(trunk.identity.random)}")

    def opened(split: str, views: Views, precision: str) -> FeatureSource:
        images = data.train if split == "train" else data.test
        live = features_of(trunk.backbone, images, views=views, precision=precision, device=env.device)
        if config.freeze_depth == 0:
            # Nothing is frozen but the resizing: its output is larger than the images and cheap to redo.
            return live
        identity = [trunk.identity.sha256, config.backbone, config.freeze_depth, config.image_size, precision]
        return keep_source(live, identity, split, env)

    # Reported accuracy is fp32 from pixels to logits, whatever training computes in.
    train = opened("train", Views(data.flip, config.shifts), config.precision)
    return Frozen(data, trunk, train, opened("test", PLAIN, "fp32"))


def keep_source(live: FeatureSource, identity: object, label: str, env: Environment) -> FeatureSource:
    """Keep the features in the environment's cache. Raises ``Interrupted`` when asked to stop.

    The cache is written whole or not at all; resuming computes it again.
    """
    return keep_features(
        live, identity=identity, cache_dir=env.cache_dir, report=env.report, progress=env.watching(), label=label
    )


def backbone_identity(config: RunConfig, trunk: Trunk) -> dict[str, str]:
    """Return what a stored decoder says of the backbone it belongs to."""
    return {"backbone": config.backbone, "weights": trunk.identity.name, "backbone_sha256": trunk.identity.sha256}


def basis_of(frozen: Frozen) -> dict[str, str]:
    """Return the hashes of what a training phase stands on, by the names that a user knows."""
    return {"data": frozen.data.sha256, "weights": frozen.trunk.identity.sha256 + frozen.trunk.stages_sha256}


def hashes_of(frozen: Frozen, model: Path) -> dict[str, Any]:
    """Return the hashes that a result carries: of the backbone, the data and the stored decoder."""
    identity = frozen.trunk.identity
    return {
        "backbone": {
            "weights": identity.name,
            "sha256": identity.sha256,
            "random": list(identity.random),
        },
        "data": frozen.data.sha256,
        "model": file_sha256(model),
    }
