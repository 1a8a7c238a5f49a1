"""The pooled features of a frozen Default decoder: what every head is trained on."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.environment import Environment
from resnet_spiking.network.build import state_sha256
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.training.default import Default
from resnet_spiking.training.frozen import Frozen, keep_source


def remember_pooled(
    config: RunConfig, frozen: Frozen, default: Default, env: Environment
) -> tuple[FeatureSource, FeatureSource]:
    """Return the pooled features of both splits, from memory where a run of this process left them."""
    key = ("pooled", default.folder, default.result["hashes"]["model"], env.device)
    found: tuple[FeatureSource, FeatureSource] = env.remember(key, lambda: _pooled(config, frozen, default, env))
    return found


def _pooled(
    config: RunConfig, frozen: Frozen, default: Default, env: Environment
) -> tuple[FeatureSource, FeatureSource]:
    """Return the pooled features of the frozen Default decoder: what every head is trained on."""
    stages = copy.deepcopy(default.network.stages).requires_grad_(False)
    stages_sha256 = state_sha256(stages)

    def opened(source: FeatureSource, label: str, precision: str) -> FeatureSource:
        decoder = Decoder(stages, nn.Identity(), precision).eval()

        def compute(indices: Tensor, chosen: Tensor) -> Tensor:
            with torch.no_grad():
                return decoder.pool(source.batch(indices, chosen))

        live = FeatureSource(source.images, source.views, source.device, compute)
        # One set of tensors can be that of several architectures (where a stride stands has no tensor).
        structure = [config.backbone, config.freeze_depth]
        identity = ["pooled", frozen.trunk.identity.sha256, stages_sha256, structure, config.image_size, precision]
        return keep_source(live, identity, f"pooled {label}", env)

    return opened(frozen.train, "train", config.precision), opened(frozen.test, "test", "fp32")
