"""Models on which the right answer of an attack is known."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.target import Target, make_target
from resnet_spiking.network.classifier import Classifier, Decoder
from resnet_spiking.network.head import HeadConfig, SpikingHead


class LinearCase(NamedTuple):
    """A linear classifier in fp64 and grey images, far enough from 0 and 1 for the box to play no part.

    ``layer`` is the model's own. ``linf`` and ``l2``: each image's distance to the nearest border,
    ``min_j |f_j| / ||w_j - w_y||_q``.
    """

    model: nn.Module
    layer: nn.Linear
    images: Tensor
    labels: Tensor
    linf: Tensor
    l2: Tensor


def linear_case(classes: int = 2, count: int = 12, seed: int = 0) -> LinearCase:
    draws = torch.Generator().manual_seed(seed)
    layer = nn.Linear(3 * 4 * 5, classes, dtype=torch.float64)
    layer.weight.data = torch.randn(layer.weight.shape, generator=draws, dtype=torch.float64)
    images = 0.5 + 0.02 * torch.randn(count, 3, 4, 5, generator=draws, dtype=torch.float64)
    layer.bias.data = -layer.weight.data.sum(1) / 2
    model = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    logits = model(images)
    labels = logits.argmax(1)
    gaps = logits - logits.gather(1, labels[:, None])
    slopes = layer.weight - layer.weight[labels][:, None]
    own = nn.functional.one_hot(labels, classes).bool()
    linf = (-gaps / slopes.abs().sum(2)).masked_fill(own, torch.inf).amin(1)
    l2 = (-gaps / slopes.norm(dim=2)).masked_fill(own, torch.inf).amin(1)
    return LinearCase(model, layer, images, labels, linf, l2)


def rate_classifier(seed: int = 0, encoding: str = "rate") -> Classifier:
    """A small network: convolution, pooling, and a spiking head on Bernoulli spikes or (``direct``) currents."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages = nn.Sequential(nn.Conv2d(4, 6, 3), nn.GELU())
        head = SpikingHead(6, 3, HeadConfig(neuron="lif", hidden=(16,), num_steps=8, encoding=encoding))
        # Wide enough for neurons to fire and for classes to differ from image to image.
        head.linears[0].weight.data.normal_(0, 3)
        head.output.weight.data.normal_()
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.GELU())
        return Classifier(backbone, Decoder(stages, head)).eval().requires_grad_(False)


class Votes(nn.Module):
    """Draws, for every image, a class with the given chances: a logit of 1 for it, 0 for the others."""

    def __init__(self, chances: list[float]) -> None:
        super().__init__()
        self.chances = torch.tensor(chances)

    def forward(self, images: Tensor) -> Tensor:
        drawn = torch.multinomial(self.chances, len(images), replacement=True)
        return nn.functional.one_hot(drawn, len(self.chances)).float() + 0 * images.mean((1, 2, 3))[:, None]


class Fixed(nn.Module):
    """Returns the same logits ``z`` for every image, connected to the pixels by a gradient of zero, or not at all."""

    def __init__(self, logits: list[float], connected: bool = True) -> None:
        super().__init__()
        self.values = torch.tensor(logits)
        self.connected = connected

    def forward(self, images: Tensor) -> Tensor:
        logits = self.values.expand(len(images), -1)
        return logits + 0 * images.mean((1, 2, 3))[:, None] if self.connected else logits


class BrokenOffClean(nn.Module):
    """Right on images whose pixels are 0.5, NaN on any other: an attack that counts NaN has won."""

    def forward(self, images: Tensor) -> Tensor:
        changed = (images - 0.5).abs().flatten(1).sum(1)
        return torch.stack([1 + 0 * changed, torch.where(changed > 0, torch.nan, changed)], dim=1)


class SteepGradient(torch.autograd.Function):
    """The identity, with a gradient that is NaN in one pixel and infinite in another."""

    @staticmethod
    def forward(context: object, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        broken = gradient.clone()
        broken[:, 0, 0, 0] = torch.nan
        broken[:, 0, 0, 1] = torch.inf
        return broken


class BrokenGradient(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(SteepGradient.apply(images))


class Scaled(nn.Module):
    """Multiplies the logits by ``scale``: where it is large, the label has a probability of exactly 1 in fp32."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model = model
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.model(images)


def target_of(model: nn.Module, images: Tensor, **settings: Any) -> Target:
    return make_target(model.eval().requires_grad_(False), images, **settings)
