"""A classifier as an attack sees it: logits, gradients to the pixels, a success rule, and a meter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.gradients.mode import GradientMode, OwnSurrogate
from resnet_spiking.attacks.losses import Loss, margin
from resnet_spiking.errors import UserError
from resnet_spiking.network.classifier import Classifier

Rule = Literal["single", "majority", "expected"]


class Step(NamedTuple):
    """One evaluation with gradient: loss ``[B]``, gradient ``[B, C, H, W]``, margin ``[B]`` (mean over the draws)."""

    loss: Tensor
    gradient: Tensor
    margin: Tensor


@dataclass
class Meter:
    """Forward and backward passes spent, counted per image; a draw of a stochastic head counts as one
    forward of the head (``head_forwards``), not of the network."""

    forwards: int = 0
    backwards: int = 0
    head_forwards: int = 0


@dataclass(frozen=True)
class Target:
    """A model on pixels ``[B, C, H, W]`` in [0, 1], in eval mode, its parameters without gradient.

    Any ``nn.Module`` that returns logits ``[B, classes]`` will do. A ``Classifier`` of this project is
    taken apart: backbone and stages are deterministic and run once, only the head is drawn ``draws``
    times (expectation over transformation, Athalye et al., ICML 2018), with the gradient of the
    mean loss. Any other stochastic module runs whole for each draw.

    Success is decided by ``margin >= 0``: a tie counts against the defender. For a stochastic model the
    rule is fixed before: ``majority`` (the label must win more of ``votes`` draws than every other
    class) or ``expected`` (the label must be right in more than half of them); a deterministic model has
    ``single``. Draws that decide (``correct``) come from another generator than those that
    steer the attack.

    Make one with ``make_target``; ``using`` returns the same target with another gradient mode.
    """

    model: nn.Module
    stochastic: bool
    rule: Rule
    draws: int
    votes: int
    mode: GradientMode
    meter: Meter

    def using(self, mode: GradientMode) -> Target:
        """Return this target differentiated by ``mode``."""
        return replace(self, mode=mode)

    def logits(self, images: Tensor, generator: torch.Generator | None = None, draws: int | None = None) -> Tensor:
        """Return logits ``[K, B, classes]`` of K independent draws (K = 1 for a deterministic model)."""
        count = (draws or self.draws) if self.stochastic else 1
        self.meter.forwards += len(images) * (1 if isinstance(self.model, Classifier) else count)
        self.meter.head_forwards += len(images) * count
        if isinstance(self.model, Classifier):
            decoder = self.model.decoder
            pooled = decoder.pool(self.model.backbone(images))
            return torch.stack([decoder.head(pooled, generator) for _ in range(count)])
        if not self.stochastic:
            return self.model(images).unsqueeze(0)
        with _global_draws(generator, images.device):
            return torch.stack([self.model(images) for _ in range(count)])

    def step(self, images: Tensor, labels: Tensor, loss: Loss, generator: torch.Generator | None = None) -> Step:
        """Return loss, gradient to the pixels and margin, averaged over ``draws`` draws."""
        pixels = images.detach().requires_grad_()
        with torch.enable_grad(), self.mode.applied(self.model):
            logits = self.logits(pixels, generator)
            values = torch.stack([loss(drawn, labels) for drawn in logits]).mean(0)
        (gradient,) = torch.autograd.grad(values.sum(), pixels)
        self.meter.backwards += len(images)
        if self.mode.exact_forward:
            margins = torch.stack([margin(drawn, labels) for drawn in logits.detach()]).mean(0)
        else:
            margins = self.margins(images, labels, generator)
        return Step(values.detach(), gradient, margins)

    @torch.no_grad()
    def margins(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean margin ``[B]`` over ``draws`` draws, without a gradient."""
        return torch.stack([margin(drawn, labels) for drawn in self.logits(images, generator)]).mean(0)

    @torch.no_grad()
    def correct(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Say for each image ``[B]`` whether it is classified as its label under the rule.

        Logits that are not finite are no success of an attacker: the image counts as correct here, and
        ``finite`` tells.
        """
        logits = self.logits(images, generator, self.votes)
        ahead = torch.stack([margin(drawn, labels) for drawn in logits]) < 0  # [K, B]
        broken = ~logits.isfinite().all(-1).all(0)
        if self.rule != "majority":
            return (ahead.float().mean(0) > 0.5) | broken
        # A draw in which the label is not strictly ahead is a vote for the best other class.
        others = logits.scatter(2, labels.expand(len(logits), -1)[..., None], -torch.inf).argmax(-1)
        choices = torch.where(ahead, labels, others)
        votes = torch.nn.functional.one_hot(choices, logits.shape[-1]).sum(0)  # [B, classes]
        return (margin(votes.double(), labels) < 0) | broken

    @torch.no_grad()
    def finite(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Say for each image ``[B]`` whether the image and all of its logits are finite."""
        logits = self.logits(images, generator)
        return logits.isfinite().all(-1).all(0) & images.isfinite().flatten(1).all(1)


@contextmanager
def _global_draws(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Let a module that draws from torch's global generator draw from ``generator``; leave the global one as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed = torch.randint(2**62, (), generator=generator, device=generator.device if generator else None)
        torch.manual_seed(int(seed))
        yield


@contextmanager
def attackable(model: nn.Module) -> Iterator[nn.Module]:
    """Put every module in eval mode and switch off the gradients of all parameters; restore both, one by one.

    Also after an exception. TF32 and autocast are off inside: gradients are fp32.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    tf32 = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    try:
        for module, _ in modes:
            module.training = False
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield model
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        for module, training in modes:
            module.training = training
        for parameter, required in wanted:
            parameter.requires_grad_(required)


def make_target(
    model: nn.Module,
    images: Tensor,
    *,
    draws: int = 20,
    votes: int = 20,
    rule: Rule | None = None,
    mode: GradientMode | None = None,
) -> Target:
    """Return the target for ``model``, found stochastic or not by running it on some of ``images``.

    Call it inside ``attackable(model)``.

    Raises ``UserError`` for images outside [0, 1], of another rank than 4 or not finite, and for logits
    that are not finite or not ``[B, classes]``.
    """
    check_images(images)
    sample = images[:8]
    with torch.no_grad():
        passes = [model(sample) for _ in range(5)]
    if passes[0].ndim != 2 or passes[0].shape[1] < 2:
        raise UserError(f"the model must return logits [B, classes >= 2], not {tuple(passes[0].shape)}")
    if not all(bool(found.isfinite().all()) for found in passes):
        raise UserError("the model's logits are not finite on clean images; nothing can be said about its robustness")
    head = getattr(getattr(model, "decoder", None), "head", None)
    stochastic = bool(getattr(head, "stochastic", False)) or any(bool((p != passes[0]).any()) for p in passes)
    chosen: Rule = (rule or "majority") if stochastic else "single"
    return Target(
        model,
        stochastic,
        chosen,
        draws if stochastic else 1,
        votes if stochastic else 1,
        mode or OwnSurrogate(),
        Meter(),
    )


def check_images(images: Tensor) -> None:
    """Raise ``UserError`` unless ``images`` are finite pixels ``[B, C, H, W]`` in [0, 1]."""
    if images.ndim != 4 or not images.is_floating_point():
        raise UserError(f"images must be floating-point pixels [B, C, H, W], not {images.dtype} {tuple(images.shape)}")
    if not bool(images.isfinite().all()):
        raise UserError("images hold values that are not finite; attack pixels in [0, 1]")
    if len(images) and (float(images.min()) < 0 or float(images.max()) > 1):
        raise UserError(
            f"images must be pixels in [0, 1], found {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "put normalisation inside the model"
        )


def check_labels(labels: Tensor, images: Tensor, classes: int) -> None:
    """Raise ``UserError`` unless ``labels`` are one class index in [0, classes) per image."""
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise UserError(f"labels must be {len(images)} class indices, not {labels.dtype} {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(f"labels must lie in 0..{classes - 1}, found {int(labels.min())}..{int(labels.max())}")
