"""A classifier as an attack sees it: logits, gradients to the pixels, a success rule, and a meter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spiking.attacks.checks import check_count, check_images, check_logits
from resnet_spiking.attacks.gradients.mode import GradientMode, OwnSurrogate
from resnet_spiking.attacks.losses import Loss, margin, targeted_margin
from resnet_spiking.errors import UserError, check_known
from resnet_spiking.network.arithmetic import plain_arithmetic
from resnet_spiking.network.classifier import Classifier, Decoder
from resnet_spiking.network.folding import folded
from resnet_spiking.network.modes import in_eval_mode

Rule = Literal["single", "majority", "expected"]
RULES = ("majority", "expected")
# Logits of two passes, each scaled to length 1, differ by more than this when a model draws random numbers (the
# threshold of AutoAttack's own check); rounding on a GPU stays far below.
RANDOM = 1e-4
# Draws run together up to this many rows: beyond it a head is no quicker, and its graph takes memory.
ROWS = 512
# What stands for "just not" and "just" when the mean margin and the rule disagree.
NARROW = 1e-6


class Step(NamedTuple):
    """One evaluation with gradient: loss ``[B]``, gradient ``[B, C, H, W]``, and ``Target.margins`` ``[B]``."""

    loss: Tensor
    gradient: Tensor
    margin: Tensor


@dataclass
class Meter:
    """What was spent and met, counted per image.

    A draw of a stochastic head counts as one forward of the head (``head_forwards``), not of the network.
    ``zero_gradients`` and ``broken_gradients``: gradients that were zero in every pixel, or not finite in some.
    """

    forwards: int = 0
    backwards: int = 0
    head_forwards: int = 0
    zero_gradients: int = 0
    broken_gradients: int = 0


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
    steer the attack. ``divided``: the model is a ``Classifier`` that draws in its head alone. ``climbed`` is what
    gradients are taken of: the model, or where it is divided the same head on stages with their BatchNorms folded in
    (equal up to rounding, and quicker); whatever decides about an image is the model itself.

    Make one with ``make_target``; ``using`` returns the same target with another gradient mode.
    """

    model: nn.Module
    stochastic: bool
    rule: Rule
    draws: int
    votes: int
    mode: GradientMode
    meter: Meter
    classes: int
    divided: bool
    climbed: nn.Module

    def using(self, mode: GradientMode) -> Target:
        """Return this target differentiated by ``mode``."""
        return replace(self, mode=mode)

    def logits(self, images: Tensor, generator: torch.Generator | None = None, draws: int | None = None) -> Tensor:
        """Return logits ``[K, B, classes]`` of K independent draws (K = 1 for a deterministic model).

        Without a generator a stochastic model draws from torch's global one.
        """
        count = (draws or self.draws) if self.stochastic else 1
        features = self._features(self.model, images)
        return torch.cat([self._drawn(features, size, generator) for size in self._groups(count, len(images))])

    def differentiable_logits(
        self, images: Tensor, generator: torch.Generator | None = None, draws: int | None = None
    ) -> Tensor:
        """Return logits as ``logits`` does, with a graph to ``images`` that the gradient mode differentiates.

        For attacks of other libraries. Forward passes are counted; backward passes are the caller's to count.
        """
        count = (draws or self.draws) if self.stochastic else 1
        with torch.enable_grad(), self.mode.applied(self.model):
            features = self._features(self.model, images)
            groups = self._groups(count, len(images), one_by_one=self.mode.per_image)
            return torch.cat([self._drawn(features, size, generator) for size in groups])

    def step(self, images: Tensor, labels: Tensor, loss: Loss, generator: torch.Generator | None = None) -> Step:
        """Return loss and gradient to the pixels, averaged over ``draws`` draws, and the margin.

        A gradient is zero where it is not finite, and everywhere when no logit depends on the pixels; the meter
        counts both.
        """
        values, gradients, margins = self._differentiate(images, labels, [loss], generator)
        return Step(values[0], gradients[0], margins)

    def differences(
        self, images: Tensor, labels: Tensor, classes: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``z_j - z_y`` for the classes ``j [B, k]``: values ``[k, B]``, gradients ``[k, B, C, H, W]``, margin.

        One forward and k backward passes; averages and guards as in ``step``.
        """
        return self._differentiate(images, labels, [targeted_margin(column) for column in classes.T], generator)

    @torch.no_grad()
    def margins(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the margin ``[B]`` of each image, not negative exactly when it counts as misclassified.

        For a stochastic model: the mean margin over ``draws`` draws. It is not negative when the label has lost on
        these draws under the rule, and on ``votes`` independent ones by two standard errors of them
        (``1 / sqrt(votes)`` of the draws, at most all): an attack that looks a hundred times would else stop at a
        lucky draw. An image that loses by less goes on being attacked, and ``correct`` decides about it.
        """
        return self._judged(self.logits(images, generator), images, labels, generator)

    @torch.no_grad()
    def correct(self, images: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Say for each image ``[B]`` whether it is classified as its label under the rule, from ``votes`` draws.

        Logits that are not finite are no success of an attacker: the image counts as correct here, and
        ``finite`` tells.
        """
        return self._deficit(self.logits(images, generator, self.votes), labels) < 0

    @torch.no_grad()
    def finite(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Say for each image ``[B]`` whether the image and all of its logits are finite."""
        logits = self.logits(images, generator)
        return logits.isfinite().all(-1).all(0) & images.isfinite().flatten(1).all(1)

    def _features(self, model: nn.Module, images: Tensor) -> Tensor:
        """Run the deterministic part of ``model``: up to the head of a divided ``Classifier``, else nothing."""
        if not self.divided:
            return images
        self.meter.forwards += len(images)
        network = cast(Classifier, model)
        return network.decoder.pool(network.backbone(images))

    def _groups(self, count: int, images: int, *, one_by_one: bool = False) -> list[int]:
        """Split ``count`` draws into groups that run as one batch: a head's loop over time costs the same for many."""
        size = 1 if one_by_one or not self.divided else max(ROWS // max(images, 1), 1)
        return [min(size, count - start) for start in range(0, count, size)]

    def _drawn(self, features: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        """Return ``count`` draws ``[count, B, classes]`` of the part that may be stochastic."""
        self.meter.head_forwards += len(features) * count
        if self.divided:
            repeated = features.expand(count, *features.shape).flatten(0, 1)
            return cast(Classifier, self.model).decoder.head(repeated, generator).unflatten(0, (count, len(features)))
        self.meter.forwards += len(features) * count
        if not self.stochastic or generator is None:
            return torch.stack([self._whole(features) for _ in range(count)])
        with global_draws(generator, features.device):
            return torch.stack([self._whole(features) for _ in range(count)])

    def _whole(self, pixels: Tensor) -> Tensor:
        """Return the logits of a model that may be anybody's: it gets a copy, which it may normalise in place."""
        logits: Tensor = self.model(pixels.clone())
        check_logits(logits, len(pixels), self.classes)
        return logits

    def _differentiate(
        self, images: Tensor, labels: Tensor, losses: Sequence[Loss], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean losses ``[k, B]``, their gradients ``[k, B, C, H, W]`` and the margin ``[B]``.

        The gradient to the head's input is averaged over groups of draws, each group's graph freed before the
        next, then pulled back once through the deterministic part.
        """
        pixels = images.detach().requires_grad_()
        with torch.enable_grad(), self.mode.applied(self.model):
            features = self._features(self.climbed, pixels)
            leaf = pixels if features is pixels else features.detach().requires_grad_()
            values, pulled, drawn = [], [], []
            for size in self._groups(self.draws, len(images), one_by_one=self.mode.per_image):
                logits = self._drawn(leaf, size, generator)
                found = [torch.stack([loss(draw, labels) for draw in logits]).sum(0) for loss in losses]
                pulled.append(_pull_all([value.sum() for value in found], leaf))
                values.append(torch.stack(found).detach())
                drawn.append(logits.detach())
                del logits, found
            gradients = torch.stack(pulled).sum(0) / self.draws
            if leaf is not pixels:
                gradients = _pull_all([features] * len(losses), pixels, list(gradients))
        self.meter.backwards += len(images) * len(losses)
        finite = gradients.isfinite()
        gradients = torch.where(finite, gradients, 0)
        self.meter.broken_gradients += int((~finite.flatten(2).all(2)).sum())
        self.meter.zero_gradients += int((gradients.flatten(2) == 0).all(2).sum())
        if self.mode.exact_forward:
            margins = self._judged(torch.cat(drawn), images, labels, generator)
        else:
            margins = self.margins(images, labels, generator)
        return torch.stack(values).sum(0) / self.draws, gradients, margins

    @torch.no_grad()
    def _judged(self, logits: Tensor, images: Tensor, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the mean margin ``[B]`` of logits ``[K, B, classes]`` with the sign of the verdict."""
        mean = torch.stack([margin(drawn, labels) for drawn in logits]).mean(0)
        if not self.stochastic:
            return mean
        lost = self._deficit(logits, labels) >= 0
        rows = lost.nonzero().squeeze(1)
        if len(rows):
            votes = self.logits(images[rows], _independent(generator), self.votes)
            lost[rows] = self._deficit(votes, labels[rows]) >= min(1 / len(votes) ** 0.5, 0.5)
        # Both keep the order of the mean margins, so that an attack still sees what improves.
        narrow = NARROW / (1 + mean.abs().clamp_max(1 / NARROW))
        held = torch.where(mean >= 0, -narrow, mean)
        beaten = torch.where(mean < 0, narrow, mean)
        return torch.where(mean.isfinite(), torch.where(lost, beaten, held), mean)

    def _deficit(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return by how much the label of each image ``[B]`` loses under the rule, from logits ``[K, B, classes]``.

        ``expected``: 0.5 less the share of draws that are right; ``majority``: half the difference between the
        shares of the votes for the best other class and for the label; ``single``: the former. Lost is what is not
        negative. It is negative, too, where logits are not finite.
        """
        ahead = torch.stack([margin(drawn, labels) for drawn in logits]) < 0  # [K, B]
        broken = ~logits.isfinite().all(-1).all(0)
        if self.rule == "majority":
            # A draw in which the label is not strictly ahead is a vote for the best other class.
            others = logits.scatter(2, labels.expand(len(logits), -1)[..., None], -torch.inf).argmax(-1)
            choices = torch.where(ahead, labels, others)
            votes = functional.one_hot(choices, logits.shape[-1]).sum(0)  # [B, classes]
            deficit = margin(votes.double(), labels) / (2 * len(logits))
        else:
            deficit = 0.5 - ahead.double().mean(0)
        return torch.where(broken, -1, deficit)


def _pull_all(values: Sequence[Tensor], wanted: Tensor, weights: Sequence[Tensor | None] | None = None) -> Tensor:
    """Return the gradient of each of k values (weighted) that share a graph ``[k, *wanted]``, then let the graph go.

    It is zero for a value that does not depend on ``wanted``.
    """
    found = []
    for index, (value, weight) in enumerate(zip(values, weights or [None] * len(values), strict=True), 1):
        gradient = None
        if value.requires_grad:
            shared = index < len(values)
            (gradient,) = torch.autograd.grad(value, wanted, weight, retain_graph=shared, allow_unused=True)
        found.append(torch.zeros_like(wanted) if gradient is None else gradient)
    return torch.stack(found)


def _independent(generator: torch.Generator | None) -> torch.Generator | None:
    """Return a new generator, seeded by a draw from ``generator``."""
    if generator is None:
        return None
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(generator.device).manual_seed(int(seed))


@contextmanager
def global_draws(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Let a module that draws from torch's global generator draw from ``generator``; leave the global one as it was."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        # Not torch.manual_seed, which would seed every GPU for good.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def attackable(model: nn.Module) -> Iterator[nn.Module]:
    """Put every module in eval mode and switch off the gradients of all parameters; restore both, one by one.

    Also after an exception. TF32, autocast and a decoder's bf16 are off inside: logits and gradients are fp32.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    precisions = [(module, module.precision) for module in model.modules() if isinstance(module, Decoder)]
    try:
        for decoder, _ in precisions:
            decoder.precision = "fp32"
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        with (
            in_eval_mode(model),
            plain_arithmetic(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield model
    finally:
        for decoder, precision in precisions:
            decoder.precision = precision
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

    Call it inside ``attackable(model)``. torch's global generator is left as it was. ``rule`` is ``majority`` or
    ``expected`` and means nothing to a deterministic model.

    Raises ``UserError`` for images outside [0, 1], of another rank than 4, not finite or none at all, for
    logits that are not finite or not ``[B, classes]``, and for an unknown rule.
    """
    check_images(images)
    check_count("draws", draws)
    check_count("votes", votes)
    if rule not in (None, "single"):
        check_known("rule", rule, RULES)
    if not len(images):
        raise UserError("a target needs at least one image, to see what the model returns")
    sample = images[:8]
    generator = torch.Generator().manual_seed(0)
    passes = []
    for _ in range(5):
        with torch.no_grad(), global_draws(generator, images.device):
            passes.append(_first_look(model, sample.clone()))
    check_logits(passes[0], len(sample))
    if not all(bool(found.isfinite().all()) for found in passes):
        raise UserError("the model's logits are not finite on clean images; nothing can be said about its robustness")
    stochastic = _declared(model) or any(_differ(found, passes[0]) for found in passes[1:])
    divided = isinstance(model, Classifier) and not _declared(model.backbone) and not _declared(model.decoder.stages)
    if divided and stochastic:
        divided = _declared(cast(Classifier, model).decoder.head)
    if stochastic and rule == "single":
        raise UserError(f"the model draws random numbers, so one draw decides nothing; choose from: {', '.join(RULES)}")
    return Target(
        model,
        stochastic,
        (rule or "majority") if stochastic else "single",
        draws if stochastic else 1,
        votes if stochastic else 1,
        mode or OwnSurrogate(),
        Meter(),
        passes[0].shape[1],
        divided,
        _folded(cast(Classifier, model)) if divided else model,
    )


def _first_look(model: nn.Module, images: Tensor) -> Tensor:
    try:
        return cast(Tensor, model(images))
    except RuntimeError as error:
        if "dtype" not in str(error) and "scalar type" not in str(error):
            raise
        raise UserError(
            f"the model does not take {images.dtype} images ({str(error).splitlines()[0]}); bring the images and its "
            "parameters to one precision"
        ) from None


def _folded(model: Classifier) -> Classifier:
    """Return ``model`` with its BatchNorms folded in and the very same head."""
    decoder = model.decoder
    return Classifier(folded(model.backbone), Decoder(folded(decoder.stages), decoder.head, decoder.precision))


def _declared(model: nn.Module) -> bool:
    """Say whether a part of the model states that it draws random numbers."""
    return any(getattr(module, "stochastic", False) is True for module in model.modules())


def _differ(one: Tensor, other: Tensor) -> bool:
    scaled = [functional.normalize(logits, dim=1) for logits in (one, other)]
    distance = (scaled[0] - scaled[1]).norm(dim=1)
    return bool((one.argmax(1) != other.argmax(1)).any()) or bool((distance > RANDOM).any())
