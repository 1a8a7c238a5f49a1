"""A labelled set of images held in memory, and its identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from resnet_spiking.errors import UserError

MEMORY = "memory"
"""The source of images that a caller made, and that no file holds for a later process."""


@dataclass(frozen=True)
class ImageSet:
    """Images ``uint8 [N, C, H, W]`` (C = 1 or 3) with labels ``int64 [N]``, places in the class names.

    Raises ``UserError`` for anything else.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str = MEMORY

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise UserError(
                f"images must be uint8 [N, C, H, W] with values up to 255 and C = 1 or 3, not {images.dtype} "
                f"{list(images.shape)}"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise UserError(
                f"labels must be int64 [{len(images)}], one an image, not {labels.dtype} {list(labels.shape)}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise UserError(
                f"labels must lie from 0 to {len(self.classes) - 1}, places in the {len(self.classes)} classes, not "
                f"from {int(labels.min())} to {int(labels.max())}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return the chosen images as ``float32 [B, C, H, W]`` in [0, 1]."""
        return self.images[indices].float().div_(255)

    @cached_property
    def sha256(self) -> str:
        """Hash of pixels, labels and class names: the identity that cache keys and results carry."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        digest.update(self.images.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    def balanced(self, count: int) -> Tensor:
        """Return the indices of the first ``count`` images of a class-balanced interleaving (all, when fewer)."""
        if count >= len(self):
            return torch.arange(len(self))
        rank = torch.zeros_like(self.labels)
        for label in range(len(self.classes)):
            members = self.labels == label
            rank[members] = torch.arange(int(members.sum()))
        return torch.argsort(rank * len(self.classes) + self.labels, stable=True)[:count]

    def subset(self, count: int) -> ImageSet:
        """Return the images of ``balanced(count)``."""
        if count >= len(self):
            return self
        chosen = self.balanced(count)
        return ImageSet(self.images[chosen], self.labels[chosen], self.classes, self.source)


@dataclass(frozen=True)
class Dataset:
    """A train split and a test split with the same classes.

    ``flip`` says whether a horizontal mirror image keeps its label (not so for digits). ``notes`` are lines for the
    user about what was not taken as it lies there.

    Raises ``UserError`` for an empty split, or for splits of other classes, or in another order.
    """

    name: str
    train: ImageSet
    test: ImageSet
    flip: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split, images in (("train", self.train), ("test", self.test)):
            if not len(images):
                raise UserError(f"{split} of {self.name} holds no images; give at least one")
        if self.train.classes != self.test.classes:
            raise UserError(
                f"train and test of {self.name} must have the same classes in the same order, not "
                f"{self.train.classes} and {self.test.classes}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.train.sha256}{self.test.sha256}".encode()).hexdigest()
