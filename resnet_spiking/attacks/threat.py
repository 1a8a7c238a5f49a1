"""What an attacker may do: a ball around each image, measured in pixels in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from resnet_spiking.attacks.names import NORMS, Norm
from resnet_spiking.errors import UserError, check_known

LEAST = 1e-3
"""Of an L2 radius at most this share is given up to rounding; a ball that is hardly wider than it has nothing else."""
WIDEST = 1e6
"""An L2 radius above that of any image; what an attack makes of it stays within fp32."""


def parse_eps(text: str | float) -> float:
    """Read a radius in pixels of [0, 1]: ``8/255``, ``0.5/255`` or ``0.03``.

    Raises ``UserError`` when it is malformed, negative or not finite.
    """
    try:
        parts = str(text).split("/")
        value = float(Fraction(parts[0].strip()) / Fraction(parts[1].strip())) if len(parts) == 2 else float(text)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):
        raise UserError(f"eps {text!r} is malformed; give a fraction such as 8/255 or a number such as 0.03") from None
    if not math.isfinite(value) or value < 0:
        raise UserError(f"eps must be 0 or a positive number (pixels in [0, 1]), not {text}; 8 of 255 levels is 8/255")
    return value


@dataclass(frozen=True)
class Threat:
    """All images x' with ``||x' - x||_p <= eps`` and pixels in [0, 1], p = inf or 2 over a whole image."""

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        check_known("norm", self.norm, NORMS)
        if parse_eps(self.eps) > 1 and self.norm == "linf":
            raise UserError(
                f"eps must lie in [0, 1] in Linf (pixels in [0, 1]), not {self.eps}; 8 of 255 levels is 8/255"
            )

        if self.eps > WIDEST:
            raise UserError(f"eps must lie in [0, {WIDEST:g}] in L2 (pixels in [0, 1]), not {self.eps}")

    def project(self, moved: Tensor, images: Tensor) -> Tensor:
        """Return the point of the ball and the box that belongs to ``moved`` [B, C, H, W].

        Linf: the nearest one. L2: scaled back to the ball, then clipped to the box, which can only
        bring it nearer to ``images`` (they lie in the box). The ball is made smaller by what rounding D pixels can add,
        ``sqrt(D)`` times half a step of a pixel near 1, so that no image leaves it by that.
        """
        change = moved - images
        if self.norm == "linf":
            change = change.clamp(-self.eps, self.eps)
        else:
            flat = per_image(change)
            rounding = math.sqrt(flat.shape[1]) * torch.finfo(change.dtype).eps / 4
            length = norm_of(change, "l2", torch.float64).clamp_min(torch.finfo(change.dtype).tiny)
            share = (max(self.eps - rounding, self.eps * (1 - LEAST)) / length).clamp_max(1.0)
            change = change * expand(share.to(change.dtype), change)
        return (images + change).clamp(0, 1)

    def size(self, change: Tensor) -> Tensor:
        """Return the norm ``[B]`` of each image of ``change [B, C, H, W]``."""
        return norm_of(change, self.norm)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the direction of unit norm that increases a loss fastest: the sign, or the normalised gradient."""
        if self.norm == "linf":
            return gradient.sign()
        # Scaled first: the squares of a saturated model's gradient underflow, those of a steep surrogate's overflow.
        tiny = torch.finfo(gradient.dtype).tiny
        scaled = gradient / expand(norm_of(gradient, "linf").clamp_min(tiny), gradient)
        return scaled / expand(norm_of(scaled, "l2").clamp_min(tiny), gradient)

    def random_start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random point of the ball: uniform in each pixel, or of uniform radius in a uniform direction."""
        if self.norm == "linf":
            noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
            return self.project(images + self.eps * (2 * noise - 1), images)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        radius = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype)
        return self.project(images + self.eps * expand(radius, images) * self.steepest(noise), images)

    def random_rim(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random point of norm eps (before the box cuts it): noise in [-1, 1] or Gaussian, scaled."""
        if self.norm == "linf":
            noise = 2 * torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype) - 1
            noise = noise / expand(norm_of(noise, "linf").clamp_min(torch.finfo(noise.dtype).tiny), noise)
        else:
            noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
            noise = self.steepest(noise)
        return self.project(images + self.eps * noise, images)


def norm_of(change: Tensor, norm: str, dtype: torch.dtype | None = None) -> Tensor:
    """Return the Linf or L2 norm ``[B]`` of each image, computed in ``dtype`` (its own when None)."""
    flat = per_image(change)
    if not flat.shape[1]:
        return flat.new_zeros(len(flat), dtype=dtype or flat.dtype)
    if norm == "linf":
        return flat.abs().amax(1).to(dtype or flat.dtype)
    return torch.linalg.vector_norm(flat, dim=1, dtype=dtype)


def over_mean(gradient: Tensor) -> Tensor:
    """Return ``g / mean|g|`` of each image; a zero gradient stays zero, a tiny or huge one keeps its digits."""
    tiny = torch.finfo(gradient.dtype).tiny
    scaled = gradient / expand(norm_of(gradient, "linf").clamp_min(tiny), gradient)
    return scaled / expand(per_image(scaled.abs()).mean(1).clamp_min(tiny), scaled)


def per_image(values: Tensor) -> Tensor:
    """Return ``values [B, ...]`` as ``[B, D]``."""
    return values.reshape(len(values), values[0].numel() if len(values) else 0)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Return ``values [B]`` with the axes that broadcast over ``like [B, ...]``."""
    return values.view(-1, *([1] * (like.ndim - 1)))
