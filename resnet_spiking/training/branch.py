"""The spiking branch of a Default: a new head, or a spiking stage 4 and a head, trained by BPTT."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.environment import Environment
from resnet_spiking.network.build import build_spiking
from resnet_spiking.network.calibration import calibrate
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.spiking_stage import SpikingStage
from resnet_spiking.randomness import generator_for
from resnet_spiking.training.checkpoint import save_model
from resnet_spiking.training.default import Default
from resnet_spiking.training.frozen import Frozen, backbone_identity, basis_of
from resnet_spiking.training.phase import Phase, evaluating, train_phase
from resnet_spiking.training.pooled import remember_pooled
from resnet_spiking.training.proof import prove

CALIBRATION_IMAGES = 64


def train_branch(
    config: RunConfig, output: Path, frozen: Frozen, default: Default, env: Environment
) -> tuple[Decoder, dict[str, Any]]:
    """Train the branch from ``default`` on; write its decoder to ``output``; return it with its figures."""
    stages = copy.deepcopy(default.network.stages)
    classes = len(frozen.data.classes)
    branch = replace(config, seed=config.branch_seed, head_seed=None, lr=config.stages_lr, branch_lr=None)
    network = build_spiking(branch, stages, frozen.trunk.stages.out_channels, classes).to(env.device)
    below = default.network if config.train == "decoder" else default.network.head
    teacher = below.eval() if config.distill > 0 else None
    if isinstance(network.head, SpikingStage):
        _calibrate(network.head, branch, default.network, frozen.train)
    trainee: nn.Module = network
    train, test, final_test = frozen.train, frozen.test, frozen.test
    scored: nn.Module = evaluating(network)
    if config.train == "head":
        trainee = network.head
        stages.requires_grad_(False).eval()
        # The pooled test features are fp32 in blocks of scoring's size: the head alone scores bit for bit the same.
        train, test = remember_pooled(config, frozen, default, env)
        final_test, scored = test, network.head
    phase = Phase("spiking", config.spiking_epochs, trainee, scored, train, test, final_test, teacher)
    # Weights are told by their hash, however their file is named.
    settings = {name: value for name, value in branch.as_dict().items() if name != "weights"}
    basis = {**basis_of(frozen), "Default": default.result["hashes"]["model"]}
    figures = train_phase(phase, branch, output, env, settings=settings, basis=basis)
    below_head = default.result.get("operations", {}).get("stages")
    if config.train == "head" and below_head:
        # Scored from pooled features: the stages below are Default's, and ran when it was scored.
        figures["operations"]["stages"] = below_head
    evidence = prove(evaluating(network), final_test, branch.seed, pooled=config.train == "head")
    save_model(output / "model.safetensors", network, backbone_identity(config, frozen.trunk))
    neurons = [neuron.describe(env.device) for neuron in network.head.neurons]  # type: ignore[union-attr]
    return network, {**figures, "evidence": evidence, "neurons": neurons}


def _calibrate(stage: SpikingStage, config: RunConfig, default: Decoder, train: FeatureSource) -> None:
    """Start the spiking stage from Default's, on training images of every class."""
    parts = dict(default.stages.named_children())
    reference = parts.pop("layer4").eval()
    maps = train.batch(train.images.balanced(CALIBRATION_IMAGES)).float()
    with torch.no_grad():
        for part in parts.values():
            maps = part.eval()(maps)
    generator = generator_for(config.seed, "calibration", device=train.device)
    calibrate(stage, reference, maps, generator)  # type: ignore[arg-type]
