"""One attack on one chunk of images, and which of them it really broke."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.bundles import Stage
from resnet_spiking.attacks.descent import descend
from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.minimum import MinimumNorm
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Norm, Threat, norm_of
from resnet_spiking.storage.arrays import Arrays

# x - eps and x + eps are rounded to the nearest fp32: an excess below this is no excess.
ROUNDING = 1e-6
# A stochastic model's verdict is itself random near the border: this many independent ones must agree, or an image
# tried by ten attacks would fall to the luckiest of ten draws.
VERDICTS = 3
SPENT = ("seconds", "forwards", "backwards", "head_forwards", "broken_gradients", "silent", "not_finite", "outside")


def attack_chunk(
    stage: Stage,
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    eps: float | None,
    steer: torch.Generator,
    confirm: torch.Generator,
    sources: Sequence[Target] = (),
) -> Arrays:
    """Attack ``images [B, C, H, W]`` with a stage of a bundle; ``eps`` is None for a minimum-norm attack.

    An image is broken when what the attack returned is finite, inside the ball and the box, and
    misclassified under the target's rule by draws from ``confirm``, which the attack has not seen (for a
    stochastic model by ``VERDICTS`` independent sets of votes).

    Returns arrays: ``broken bool [B]``; of the broken ones alone ``images``, ``norms``, ``steps`` and
    ``broken_margins``; ``margins [B]`` that the attack reached; and ``spent``, in the order of ``SPENT``.
    ``silent``: an iterate counted as a success during the attack, but the independent draws say otherwise;
    ``not_finite``: images, or their logits; ``outside``: images outside ball or box. None of them is broken.
    ``broken_gradients`` were not finite, which is what NaN logits give on the way.
    """
    target = target.using(make_mode(stage.mode))
    spending = _Spending(target, *sources)
    found = _run(stage, target, images, labels, norm, eps, steer, sources)
    spending.pause()
    limits = torch.full((len(images),), torch.inf if eps is None else eps, dtype=torch.float64, device=images.device)
    judged = _judge(target, found, images, labels, norm, limits, confirm)
    return {**judged, "spent": np.array([*spending.total(), *judged["spent"]])}


def descend_chunk(
    stage: Stage,
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    radii: Sequence[float],
    first: Tensor,
    steer: torch.Generator,
    confirm: torch.Generator,
) -> Arrays:
    """Attack ``images`` with a stage at all radii at once, from ``first [B]`` down (see ``descend``).

    Returns what ``attack_chunk`` does, for A attempts in place of B images, with ``rows [A]`` and ``radii [A]``, the
    positions of each attempt's image and radius.
    """
    target = target.using(make_mode(stage.mode))
    entry = find_attack(stage.attack)
    spending = _Spending(target)
    course = entry.load_course()(target, images, labels, generator=steer, **{**entry.preset, **stage.options})
    attempts = descend(target, images, labels, norm, radii, first, course, steer)
    spending.pause()
    rows = torch.cat([attempt.rows for attempt in attempts])
    positions = torch.cat([torch.full_like(attempt.rows, attempt.radius) for attempt in attempts])
    found = Outcome.joined([attempt.outcome for attempt in attempts])
    limits = torch.tensor(radii, device=images.device, dtype=torch.float64)[positions]
    parts = []
    for part in torch.arange(len(rows), device=rows.device).split(len(images)):
        chosen = rows[part]
        parts.append(_judge(target, found.rows(part), images[chosen], labels[chosen], norm, limits[part], confirm))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "spent"}
    trouble = np.sum([part["spent"] for part in parts], axis=0)
    return {
        **joined,
        "rows": rows.cpu().numpy(),
        "radii": positions.cpu().numpy(),
        "spent": np.array([*spending.total(), *trouble]),
    }


def _judge(
    target: Target,
    found: Outcome,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    limits: Tensor,
    confirm: torch.Generator,
) -> Arrays:
    """Return what ``attack_chunk`` does, with ``limits [B]`` on the norms; ``spent`` is the last three alone."""
    finite = target.finite(found.images, confirm)
    # In fp32 the length of a large image is off by more than what is allowed.
    size = norm_of(found.images.double() - images.double(), norm)
    inside = (found.images.flatten(1) >= 0).all(1) & (found.images.flatten(1) <= 1).all(1)
    inside &= size <= limits + ROUNDING
    broken = misclassified(target, found.images, labels, confirm) & finite & inside
    trouble = [(found.success & ~broken & finite).sum(), (~finite).sum(), (~inside & finite).sum()]
    return {
        "broken": broken.cpu().numpy(),
        "images": found.images[broken].float().cpu().numpy(),
        "norms": size[broken].cpu().numpy(),
        "steps": found.steps[broken].cpu().numpy().astype(np.int64),
        "broken_margins": found.margin[broken].float().cpu().numpy(),
        "margins": found.margin.float().cpu().numpy(),
        "spent": np.array([*map(int, trouble)], dtype=np.float64),
    }


class _Spending:
    """The clock and the meters of an attack: its passes up to ``pause``, its seconds up to ``total``."""

    def __init__(self, *targets: Target) -> None:
        self._targets, self._began, self._before = targets, time.perf_counter(), _metered(*targets)
        self._cost: list[int] = []

    def pause(self) -> None:
        self._cost = [now - then for now, then in zip(_metered(*self._targets), self._before, strict=True)]

    def total(self) -> list[float]:
        return [time.perf_counter() - self._began, *self._cost]


def misclassified(target: Target, images: Tensor, labels: Tensor, confirm: torch.Generator) -> Tensor:
    """Say which images ``[B]`` are misclassified, by ``VERDICTS`` independent verdicts of a stochastic model."""
    wrong = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for _ in range(VERDICTS if target.stochastic else 1):
        rows = wrong.nonzero().squeeze(1)
        if not len(rows):
            break
        wrong[rows] = ~target.correct(images[rows], labels[rows], confirm)
    return wrong


def _run(
    stage: Stage,
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    eps: float | None,
    generator: torch.Generator,
    sources: Sequence[Target],
) -> Outcome:
    entry = find_attack(stage.attack)
    options = {**entry.preset, **stage.options, "generator": generator}
    if eps is None:
        found: MinimumNorm = entry.load()(target, images, labels, norm=norm, **options)
        margins = target.margins(found.images, labels, generator)
        return Outcome(found.images, found.found, margins, torch.zeros_like(labels))
    threat = Threat(norm, eps)
    if stage.attack != "transfer":
        return entry.load()(target, images, labels, threat, **options)
    return _best_of([entry.load()(target, images, labels, threat, source=source, **options) for source in sources])


def _best_of(outcomes: list[Outcome]) -> Outcome:
    """Keep, per image, the outcome of largest margin."""
    best = torch.stack([outcome.margin for outcome in outcomes]).argmax(0)
    rows = torch.arange(len(best), device=best.device)

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(outcome, name) for outcome in outcomes])[best, rows]

    return Outcome(pick("images"), pick("success"), pick("margin"), pick("steps"))


def _metered(*targets: Target) -> tuple[int, int, int, int]:
    """Return forwards, backwards, forwards of the head alone and broken gradients, over all targets."""
    meters = [target.meter for target in targets]
    return (
        sum(meter.forwards for meter in meters),
        sum(meter.backwards for meter in meters),
        sum(meter.head_forwards for meter in meters),
        sum(meter.broken_gradients for meter in meters),
    )
