"""Is there a gradient, and does it point anywhere?"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.losses import LOSSES, margin
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.threat import Threat, per_image
from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe
from resnet_spiking.attacks.trust.recording import recording
from resnet_spiking.network.classifier import Classifier

NO_IMAGE = "no image is classified correctly"
SMOOTHED_IMAGES = 20


def zero_gradient(probe: Probe) -> Check:
    """T09: the gradient of cross-entropy and margin is not zero: at the image, at a random start, along APGD's path.

    Beside it: pixels in which it is zero, and neurons that never or always spike on these images. Pixels in which no
    gradient ever was count only if the logits change with them: a model may not read all of an image.
    """
    title, threshold = "gradients are there", "< 1 % zero gradients, < 50 % zero pixels of those that matter"
    if probe.empty:
        return Check.not_applicable("T09", title, threshold, NO_IMAGE)
    images, labels = probe.batch(probe.rows)
    threat = Threat(probe.settings.norm, probe.eps)
    shares, pixels = [], []
    flat = torch.ones(images[0].numel(), dtype=torch.bool)
    for name in ("ce", "margin"):
        draw = probe.generator("T09", name)
        for start in (images, threat.random_start(images, draw)):
            target = recording(probe.target, make_mode(probe.mode))
            target.mode.start()
            target.step(start, labels, LOSSES[name], draw)
            flat &= target.record.always_zero()
            shares.append(target.record.zero_share())
            pixels.append(target.record.zero_pixel_share())
        target = recording(probe.target, make_mode(probe.mode))
        entry = find_attack(f"apgd-{name}")
        options = {**entry.preset, "steps": min(20, probe.checking.steps)}
        entry.load()(target, images, labels, threat, generator=draw, **options)
        flat &= target.record.always_zero()
        shares.append(target.record.zero_share())
        pixels.append(target.record.zero_pixel_share())
    unread = 0.0 if _matter(probe, images, flat) else float(flat.float().mean())
    dead = (max(pixels) - unread) / (1 - unread) if unread < 1 else 0.0
    value = (
        f"{' / '.join(points(share) for share in shares)} % zero (cross-entropy, then margin: at x, at a random start, "
        f"on the path); {points(dead)} % of pixels{f', {points(unread)} % unread' if unread else ''}"
        f"{_idle_neurons(probe, images)}"
    )
    return Check("T09", title, value, threshold, max(shares) < 0.01 and dead < 0.5)


@torch.no_grad()
def _matter(probe: Probe, images: Tensor, pixels: Tensor) -> bool:
    """Say whether the logits change where ``pixels [D]`` alone are replaced by noise, by the same draws."""
    if not pixels.any():
        return False
    noise = torch.rand(images.shape, generator=probe.generator("T09", "noise"), device=images.device)
    other = torch.where(pixels.to(images.device).view_as(images[0]), noise, images)
    before, after = (probe.target.logits(given, probe.generator("T09", "unread")) for given in (images, other))
    return not torch.equal(before, after)


def _idle_neurons(probe: Probe, images: Tensor) -> str:
    model = probe.subject.model
    if not isinstance(model, Classifier) or not probe.subject.spiking:
        return ""
    with torch.no_grad():
        _, layers = model.decoder.trace(model.backbone(images), probe.generator("T09", "rates"))
    never = [float((spikes.amax((0, 1)) == 0).float().mean()) for spikes in layers]
    always = [float((spikes.amin((0, 1)) > 0).float().mean()) for spikes in layers]
    return "".join(
        f"; layer {number}: {points(silent)} % of neurons never spike, {points(full)} % always"
        for number, (silent, full) in enumerate(zip(never, always, strict=True), 1)
    )


def saturation(probe: Probe) -> Check:
    """T10: cross-entropy is not saturated (a probability of 1 in fp32), or the margin attack does as well."""
    title, threshold = "cross-entropy is not saturated", "< 5 %, or margin no weaker than cross-entropy"
    if probe.empty:
        return Check.not_applicable("T10", title, threshold, NO_IMAGE)
    images, labels = probe.batch(probe.rows)
    with torch.no_grad():
        logits = probe.target.logits(images, probe.generator("T10")).mean(0)
    certain = functional.softmax(logits.float(), 1).gather(1, labels[:, None]).squeeze(1) == 1
    share = float(certain.float().mean())
    value = f"{points(share)} % at probability 1"
    if share < 0.05:
        return Check("T10", title, value, threshold, True)
    steps = min(20, probe.checking.steps)
    left = [int(probe.attack(name, steps=steps).sum()) for name in ("apgd-margin", "apgd-ce")]
    value += f"; {left[0]} left by APGD on the margin, {left[1]} on cross-entropy, of {len(probe.rows)}"
    return Check("T10", title, value, threshold, left[0] <= left[1])


def finite_difference(probe: Probe) -> Check:
    """T15: the attack's gradient agrees with one measured from outside.

    Median cosine between the margin's gradient under the attack's mode and a finite-difference estimate for
    the Gaussian-smoothed margin, ``1/n sum (M(x + s e) - M(x - s e)) / 2s * e``, with s = eps/4 in Linf, and in L2
    eps/(4 sqrt(D)), so that a step of D pixels is as long. From n directions even the true gradient reaches
    ``sqrt(n/(n + D))`` only: on large images a quarter of that is enough. On small ones it must be above what an
    unrelated gradient reaches by chance, three standard deviations ``sqrt(pi / 2 B D)`` of the median of B images.

    Source of the estimate: Spall, IEEE TAC 37(3), 1992, with Gaussian directions.
    """
    title = "gradient agrees with finite differences"
    threshold = "median cosine >= 0.05 and above chance, or a quarter of the possible"
    if probe.empty:
        return Check.not_applicable("T15", title, threshold, NO_IMAGE)

    def compute() -> float:
        images, labels = probe.batch(probe.rows[:SMOOTHED_IMAGES])
        target = probe.target.using(make_mode(probe.mode))
        target.mode.start()
        analytic = per_image(target.step(images, labels, margin, probe.generator("T15", "gradient")).gradient)
        draw, width = probe.generator("T15"), probe.eps / 4
        if probe.settings.norm == "l2":
            width /= math.sqrt(analytic.shape[1])
        estimate = torch.zeros_like(analytic)
        for number in range(probe.checking.probes):
            direction = torch.randn(images.shape, generator=draw, device=images.device)
            ahead, behind = (
                probe.target.margins(images + side * width * direction, labels, probe.generator("T15", number))
                for side in (1.0, -1.0)
            )
            estimate += ((ahead - behind) / (2 * width))[:, None] * per_image(direction)
        return float(functional.cosine_similarity(analytic, estimate, dim=1).median())

    cosine = float(probe.value("T15-cosine", compute))
    count = min(SMOOTHED_IMAGES, len(probe.rows))
    pixels = probe.examples.adversarial[0].size
    possible = math.sqrt(probe.checking.probes / (probe.checking.probes + pixels))
    value = f"{cosine:.3f} of {possible:.3f} over {count} images, {probe.checking.probes} directions"
    chance = 3 * math.sqrt(math.pi / (2 * count * pixels))
    return Check("T15", title, value, threshold, cosine >= min(max(0.05, chance), possible / 4))


def unstable(probe: Probe) -> Check:
    """T22: the loss around an image is smooth on the attack's own scale.

    Median over images of the mean over draws of ``|M(x') - M(x)| / |M(x)|``, at most 1, M the margin and x' a random
    point of the ball of eps/2 around x
    (cross-entropy of an undefended model is so near 0 that its relative change means nothing). A stochastic
    model sees the same draws at both points.

    Source: Pintor et al., NeurIPS 2022 (indicator "unstable predictions"), there on the attacked loss.
    """
    title, threshold = "loss is stable around the image", "relative change < 0.1"
    if probe.empty:
        return Check.not_applicable("T22", title, threshold, NO_IMAGE)
    images, labels = probe.batch(probe.rows)
    draw = probe.generator("T22")
    at = probe.target.margins(images, labels, probe.generator("T22", "head"))
    changes = []
    for _ in range(min(20, probe.checking.probes)):
        near = Threat(probe.settings.norm, probe.eps / 2).random_start(images, draw)
        margins = probe.target.margins(near, labels, probe.generator("T22", "head"))
        changes.append(((margins - at).abs() / at.abs()).clamp_max(1))
    change = float(torch.stack(changes).mean(0).median())
    return Check("T22", title, f"{change:.3f} within {probe.radius_text(probe.eps / 2)}", threshold, change < 0.1)
