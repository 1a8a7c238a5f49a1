"""Watching an attack from outside: loss and gradient of each image at every step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.attacks.losses import Loss
from resnet_spiking.attacks.target import Step, Target
from resnet_spiking.attacks.threat import per_image


@dataclass
class Record:
    """What was seen of B images: per step, the images' numbers, their losses, whether the gradient was
    zero, the share of pixels in which it was, and in which pixels it was for all images."""

    indices: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    zero: list[Tensor] = field(default_factory=list)
    zero_pixels: list[Tensor] = field(default_factory=list)
    flat: list[Tensor] = field(default_factory=list)

    def curve(self, image: int) -> list[float]:
        """Return the losses of one image, step by step."""
        found = []
        for indices, losses in zip(self.indices, self.losses, strict=True):
            found += losses[indices == image].tolist()
        return found

    def zero_share(self) -> float:
        """Return the share of gradients that were zero in every pixel."""
        return float(torch.cat(self.zero).float().mean()) if self.zero else 0.0

    def zero_pixel_share(self) -> float:
        """Return the share of pixels in which a gradient was zero."""
        return float(torch.cat(self.zero_pixels).mean()) if self.zero_pixels else 0.0

    def always_zero(self) -> Tensor:
        """Say for each pixel ``[D]`` whether no image had a gradient there at any step."""
        return torch.stack(self.flat).all(0) if self.flat else torch.ones((), dtype=torch.bool)


class FollowedMode(GradientMode):
    """Another mode, and which images the attack still works on."""

    def __init__(self, inner: GradientMode) -> None:
        self.inner, self.name, self.exact_forward = inner, inner.name, inner.exact_forward
        self.indices = torch.zeros(0, dtype=torch.long)

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        return self.inner.applied(model)

    def start(self) -> None:
        self.indices = torch.zeros(0, dtype=torch.long)
        self.inner.start()

    def select(self, kept: Tensor) -> None:
        if len(self.indices):
            self.indices = self.indices[kept.cpu()]
        self.inner.select(kept)


@dataclass(frozen=True)
class RecordingTarget(Target):
    """A target that keeps a ``Record`` of every ``step``."""

    record: Record = field(default_factory=Record)

    def step(self, images: Tensor, labels: Tensor, loss: Loss, generator: torch.Generator | None = None) -> Step:
        found = super().step(images, labels, loss, generator)
        flat = per_image(found.gradient)
        mode = self.mode
        assert isinstance(mode, FollowedMode)
        if len(mode.indices) != len(images):
            mode.indices = torch.arange(len(images))
        self.record.indices.append(mode.indices.clone())
        self.record.losses.append(found.loss.cpu())
        self.record.zero.append((flat == 0).all(1).cpu())
        self.record.zero_pixels.append((flat == 0).float().mean(1).cpu())
        self.record.flat.append((flat == 0).all(0).cpu())
        return found


def recording(target: Target, mode: GradientMode) -> RecordingTarget:
    """Return ``target`` under ``mode``, recording; its meter stays shared."""
    values = {entry.name: getattr(target, entry.name) for entry in fields(Target)}
    return RecordingTarget(**{**values, "mode": FollowedMode(mode)})
