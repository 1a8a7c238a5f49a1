"""Is what was stored an attack at all? Clean replay, bounds and finiteness, eight bits."""

from __future__ import annotations

import math

import numpy as np
import torch

from resnet_spiking.attacks.bundles import Stage
from resnet_spiking.attacks.chunk import ROUNDING, attack_chunk
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe

POINT = 0.01
EIGHT = 8 / 255


def clean_replay(probe: Probe) -> Check:
    """T01: an attack of radius 0 returns the clean images, and scoring through the target is scoring the model.

    A stochastic model's two scores may differ by twice the standard error of their difference.
    """
    title = "eps = 0 is the clean evaluation"
    moved = differing = net = 0
    for number, rows in enumerate(probe.chunks(np.arange(len(probe.sample)))):
        images, labels = probe.batch(rows)
        if not number:
            threat, draw = Threat(probe.settings.norm, 0.0), probe.generator("T01", "attack")
            outcome = find_attack("fgsm").load()(probe.target, images, labels, threat, generator=draw)
            moved = int((outcome.images != images).sum())
        with torch.no_grad():
            if probe.target.stochastic:
                again = probe.target.correct(images, labels, probe.generator("T01", number))
            else:
                again = margin(probe.subject.model(images), labels) < 0
        recorded = torch.from_numpy(probe.examples.clean_correct[rows]).to(again.device)
        differing += int((again != recorded).sum())
        net += int(again.sum()) - int(recorded.sum())
    allowed = 2 * math.sqrt(differing) if probe.target.stochastic else 0
    gap = abs(net) if probe.target.stochastic else differing
    threshold = "0 pixels moved, |difference| <= 2 SE" if probe.target.stochastic else "0 pixels moved, 0 images differ"
    value = f"{moved} pixels moved, {differing} of {len(probe.sample)} images differ (net {net:+d})"
    return Check("T01", title, value, threshold, not moved and gap <= allowed)


def bounds(probe: Probe) -> Check:
    """T02: the stored images lie in ball and box; they, their logits and everything attacks returned are finite.

    An attack never returns an image whose logits are NaN, so a model that answers attacks with NaN shows in
    logits at random points of the ball, and in gradients that were not finite (at most 1 % of the sweep's).
    """
    table = probe.examples
    kept = table.is_broken
    excess = 0.0
    if kept.any():
        radii = table.smallest_eps[kept]
        excess = float((table.distance(probe.settings.norm)[kept] - radii).max())
        low, high = float(table.adversarial[kept].min()), float(table.adversarial[kept].max())
        excess = max(excess, -low, high - 1)
    broken = int((~np.isfinite(table.adversarial)).any(axis=(1, 2, 3)).sum())
    for number, rows in enumerate(probe.chunks(kept.nonzero()[0])):
        images = torch.from_numpy(table.adversarial[rows]).to(probe.device)
        broken += int((~probe.target.finite(images, probe.generator("T02", number))).sum())
    threat = Threat(probe.settings.norm, probe.eps)
    for number, rows in enumerate(probe.chunks(probe.rows)):
        images, _ = probe.batch(rows)
        draw = probe.generator("T02", "around", number)
        broken += int((~probe.target.finite(threat.random_start(images, draw), draw)).sum())
    gradients = sum(spent.backwards for spent in probe.sweep.spent.values())
    lost = sum(spent.broken_gradients for spent in probe.sweep.spent.values()) / max(1, gradients)
    met = sum(spent.not_finite for spent in probe.sweep.spent.values())
    outside = sum(spent.outside for spent in probe.sweep.spent.values())
    value = (
        f"excess {max(0.0, excess):.1e}; not finite: {broken} stored or near, {met} returned, {points(lost)} % of "
        f"gradients; {outside} returned outside"
    )
    sound = excess <= ROUNDING and not (broken or met or outside) and lost <= POINT
    return Check("T02", "stored images in ball and box, all finite", value, "excess <= 1e-6; none; <= 1 %", sound)


def eight_bits(probe: Probe) -> Check:
    """T03: adversarial images survive rounding to 8 bits, as a file would.

    Measured on the subset at 8/255 (L2: the sweep's largest radius), where the ball holds 8-bit images at all; an Linf
    image is rounded to the nearest grid point inside the ball.
    """
    title, threshold = "8-bit images fool too", "attack success falls by <= 1 point or one image"
    if probe.empty:
        return Check.not_applicable("T03", title, threshold, "no image is classified correctly")
    norm = probe.settings.norm
    eps = EIGHT if norm == "linf" else max(probe.settings.eps)
    floats = bytes_ = 0
    for number, rows in enumerate(probe.chunks(probe.rows)):
        images, labels = probe.batch(rows)
        stage = Stage("apgd-ce", probe.mode, {"steps": min(20, probe.checking.steps)})
        steer, confirm = probe.generator("T03", number, "steer"), probe.generator("T03", number, "confirm")
        piece = attack_chunk(stage, probe.target, images, labels, norm, eps, steer, confirm)
        hit = torch.from_numpy(piece["broken"]).to(images.device)
        levels = (torch.from_numpy(piece["images"]).to(images.device) * 255).round()
        if norm == "linf":
            clean = (images[hit] * 255).round()
            # 1e-4 of a level: 8/255 is no exact fp32 number.
            levels = levels.clamp((clean - eps * 255 - 1e-4).ceil(), (clean + eps * 255 + 1e-4).floor())
        floats += int(hit.sum())
        if hit.any():
            bytes_ += int((~probe.target.correct(levels.clamp(0, 255) / 255, labels[hit], confirm)).sum())
    count = len(probe.rows)
    value = f"{points(floats / count)} % as floats, {points(bytes_ / count)} % as bytes at {probe.radius_text(eps)}"
    return Check("T03", title, value, threshold, floats - bytes_ <= max(1, POINT * count))
