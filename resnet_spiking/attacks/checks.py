"""What an attack refuses, before it costs any time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from resnet_spiking.errors import UserError

EXACT = (torch.float32, torch.float64)


def check_images(images: Tensor) -> None:
    """Raise ``UserError`` unless ``images`` are finite pixels ``[B, C, H, W]`` in [0, 1], fp32 or fp64."""
    if not isinstance(images, Tensor):
        raise UserError(f"images must be a torch.Tensor [B, C, H, W], not a {type(images).__name__}")
    if images.ndim != 4 or images.dtype not in EXACT:
        advice = "; divide bytes by 255" if images.dtype == torch.uint8 else ""
        raise UserError(f"images must be fp32 pixels [B, C, H, W], not {images.dtype} {tuple(images.shape)}{advice}")
    images = images.detach()
    if not bool(images.isfinite().all()):
        raise UserError("images hold values that are not finite; attack pixels in [0, 1]")
    if images.numel() and (float(images.min()) < 0 or float(images.max()) > 1):
        raise UserError(
            f"images must be pixels in [0, 1], found {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "put normalisation inside the model"
        )


def check_model(model: nn.Module) -> None:
    """Raise ``UserError`` unless ``model`` is a module."""
    if not isinstance(model, nn.Module):
        raise UserError(f"the model must be a torch.nn.Module, not a {type(model).__name__}; wrap it in one")


def check_logits(logits: Tensor, images: int, classes: int | None = None) -> None:
    """Raise ``UserError`` unless ``logits`` are ``[images, classes]``, or of any number of classes from two on."""
    if not isinstance(logits, Tensor):
        raise UserError(
            f"the model must return logits [B, classes], not a {type(logits).__name__}; wrap it in a module that "
            "returns them"
        )
    shape = tuple(logits.shape)
    if len(shape) != 2 or shape[0] != images or (shape[1] < 2 if classes is None else shape[1] != classes):
        wanted = "classes >= 2" if classes is None else str(classes)
        raise UserError(f"the model must return logits [B, classes], here [{images}, {wanted}], not {list(shape)}")


def check_labels(labels: Tensor, images: Tensor, classes: int) -> None:
    """Raise ``UserError`` unless ``labels`` are one class index in [0, classes) per image."""
    if not isinstance(labels, Tensor):
        raise UserError(f"labels must be a torch.Tensor of class indices, not a {type(labels).__name__}")
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"labels must be {len(images)} class indices, not {labels.dtype} {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(f"labels must lie in 0..{classes - 1}, found {int(labels.min())}..{int(labels.max())}")


def check_count(name: str, value: int) -> None:
    """Raise ``UserError`` unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, not {value!r}")


def check_positive(name: str, value: float, *, most: float = math.inf) -> None:
    """Raise ``UserError`` unless ``value`` is a finite number above 0 and at most ``most``."""
    if not _is_number(value) or not 0 < value <= most:
        bound = "" if math.isinf(most) else f" of at most {most:g}"
        raise UserError(f"{name} must be a number above 0{bound}, not {value!r}")


def check_not_negative(name: str, value: float, *, most: float = math.inf) -> None:
    """Raise ``UserError`` unless ``value`` is a finite number from 0 to ``most``."""
    if not _is_number(value) or not 0 <= value <= most:
        bound = "of at least 0" if math.isinf(most) else f"from 0 to {most:g}"
        raise UserError(f"{name} must be a number {bound}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
