"""The datasets by name, without importing torch."""

from __future__ import annotations

from typing import NamedTuple

DATASETS = ("digits", "cifar10", "cifar100", "fashion-mnist", "folder")

MIRRORED = ("cifar10", "cifar100", "fashion-mnist", "folder")
"""Those that are trained on mirror images too where ``flip`` is not set: ``load_dataset`` says so of each."""


class Inputs(NamedTuple):
    """The settings ``weights`` and ``image_size`` of a run."""

    weights: str
    image_size: int


def usual_inputs(dataset: str, backbone: str) -> Inputs:
    """Return what these are where nobody names them: ImageNet's weights and 224 pixels, for digits their own and 64.

    The bundled encoder is a ResNet-18, so another backbone takes ImageNet's weights for digits too.
    """
    digits = dataset == "digits"
    return Inputs("bundled" if digits and backbone == "resnet18" else "imagenet", 64 if digits else 224)
