"""A ResNet cut in two: the frozen backbone and the stages that train."""

from __future__ import annotations

from collections import OrderedDict
from typing import final

import torch
from torch import Tensor, nn
from torchvision import models

from resnet_spiking.errors import UserError, check_known
from resnet_spiking.network.names import BACKBONES
from resnet_spiking.network.preprocess import Preprocess
from resnet_spiking.network.quick_convolution import quicken

STEM = ("conv1", "bn1", "relu", "maxpool")


@final
class Stages(nn.Sequential):
    """Consecutive parts of a ResNet under torchvision's names (``layer4.0.conv1.weight``, …).

    Maps feature maps (or normalised images, when the stem is included) to ``[B, out_channels, h, w]``.
    """

    def __init__(self, parts: OrderedDict[str, nn.Module], out_channels: int) -> None:
        super().__init__(parts)
        self.out_channels = out_channels


@final
class Backbone(nn.Module):
    """The frozen part: preprocessing, then a feature extractor that training never changes.

    Maps pixels ``[B, C, H, W]`` in [0, 1] to features. Parameters have no ``requires_grad``,
    BatchNorm stays in eval mode whatever ``train()`` says, and no autograd graph is built, unless
    the pixels themselves require a gradient (an attack): then there is one to them alone.
    """

    def __init__(self, preprocess: nn.Module, extractor: nn.Module) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.extractor = extractor
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def wrap(cls, module: nn.Module, *, side: int, normalise: bool = True) -> Backbone:
        """Freeze any module (itself, not a copy) that maps images ``[B, 3, side, side]`` to feature maps.

        With ``normalise=False`` it gets resized pixels in [0, 1] as they are.
        """
        return cls(Preprocess(side) if normalise else Preprocess(side, (0.0,) * 3, (1.0,) * 3), module)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode: BatchNorm's running statistics are frozen, too."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and pixels.requires_grad):
            return self.extractor(self.preprocess(pixels))


def split_resnet(name: str, depth: int, *, side: int, seed: int = 0) -> tuple[Backbone, Stages]:
    """Return the backbone (frozen up to stage ``depth``) and the remaining stages, with random weights.

    ``depth`` 1..4 freezes the stem and that many residual stages; 0 freezes nothing: the stem is
    then the first of the remaining parts. Weights depend on ``seed`` alone.

    Raises ``UserError`` for an unknown name or a depth out of range.
    """
    if not 0 <= depth <= 4:
        raise UserError(f"--freeze-depth must lie between 0 and 4, not {depth}")
    # The CPU's generator alone: weights are drawn there, and no GPU's is touched.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        resnet = build_resnet(name)
    parts = [(part, getattr(resnet, part)) for part in (*STEM, "layer1", "layer2", "layer3", "layer4")]
    cut = 0 if depth == 0 else len(STEM) + depth
    frozen = OrderedDict(parts[:cut])
    backbone = Backbone(Preprocess(side), Stages(frozen, _channels(frozen) if depth else 3))
    return backbone, Stages(OrderedDict(parts[cut:]), _channels(OrderedDict(parts)))


def build_resnet(name: str) -> models.ResNet:
    """Return a torchvision ResNet with random weights; ``resnet50-v1`` strides on the first 1x1 convolution.

    In He et al. (2015, arXiv:1512.03385) a bottleneck's stride stands on its first 1x1
    convolution; torchvision's (v1.5) stands on the 3x3. Weights converted from other frameworks
    often need the former.

    Raises ``UserError`` for a name that is not in ``BACKBONES``.
    """
    check_known("--backbone", name, BACKBONES)
    resnet = models.resnet50(weights=None) if name == "resnet50-v1" else models.get_model(name, weights=None)
    if name == "resnet50-v1":
        for module in resnet.modules():
            if isinstance(module, models.resnet.Bottleneck):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    quicken(resnet)
    return resnet


def _channels(parts: OrderedDict[str, nn.Module]) -> int:
    """Return how many channels leave the last block: those of its last BatchNorm on the main path."""
    norms = [
        module
        for part in parts.values()
        for name, module in part.named_modules()
        if isinstance(module, nn.BatchNorm2d) and "downsample" not in name
    ]
    return norms[-1].num_features
