"""Which optimiser trains a network, and at what rate each of its parts."""

from __future__ import annotations

import re

import torch
from torch import nn

from resnet_spiking.config import RunConfig
from resnet_spiking.training.muon import Muon

LAST_STAGE = 4
_STAGE = re.compile(r"stages\.layer(\d)\.")


def make_optimizer(network: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """Return AdamW, SGD or Muon with the head at ``head_lr``; biases, norms and decays have no weight decay.

    Stage k learns at ``lr layer_decay^(4 - k)``, the stem as a stage 0: what was pretrained and lies further from the
    new head has less to learn and more to lose. Of Muon's matrices only those of the stages are orthogonal, not the
    head's, and they are turned in bf16 where the stages' convolutions are computed in it.

    Source: Howard and Ruder, "Universal language model fine-tuning for text classification", 2018 (discriminative
    fine-tuning), by stages in place of layers.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        of_stages, matrix = name.startswith(("stages.", "head.blocks.")), parameter.ndim > 1
        peak = config.lr * config.layer_decay ** (LAST_STAGE - _stage(name)) if of_stages else config.head_lr
        decay = config.weight_decay if matrix else 0.0
        orthogonal = config.optimizer == "muon" and of_stages and matrix
        groups.setdefault((peak, decay, orthogonal), []).append(parameter)
    described = [
        {"params": members, "lr": peak, "peak": peak, "weight_decay": decay, "orthogonal": orthogonal}
        for (peak, decay, orthogonal), members in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(described, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.optimizer == "muon":
        return Muon(described, config.lr, torch.bfloat16 if config.precision == "bf16" else None)
    return torch.optim.AdamW(described, lr=config.lr, fused=True)


def _stage(name: str) -> int:
    """Return the number of the stage that a parameter of the stages belongs to; a spiking stage is the last."""
    if name.startswith("head.blocks."):
        return LAST_STAGE
    found = _STAGE.match(name)
    return int(found[1]) if found else 0
