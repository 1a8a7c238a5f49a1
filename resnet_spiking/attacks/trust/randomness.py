"""Does the model draw, and are there draws enough?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.target import global_draws
from resnet_spiking.attacks.threat import per_image
from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe

PASSES = 5
ENOUGH = 20
SAME = 1e-4


def declared(probe: Probe) -> Check:
    """T16: five passes agree, or the model says that it draws and every gradient averages at least 20 draws.

    Source of test and threshold: AutoAttack's check for randomised defences (logits scaled to length 1).
    """
    title, threshold = "deterministic, or declared and averaged", "1e-4; or declared with >= 20 draws and votes"
    images, _ = probe.batch(np.arange(min(len(probe.sample), 64)))
    with torch.no_grad(), global_draws(probe.generator("T16"), images.device):
        passes = [probe.subject.model(images) for _ in range(PASSES)]
    apart = max(
        float((functional.normalize(one, dim=1) - functional.normalize(passes[0], dim=1)).norm(dim=1).max())
        for one in passes[1:]
    )
    labels = max(int((one.argmax(1) != passes[0].argmax(1)).sum()) for one in passes[1:])
    says = any(getattr(module, "stochastic", False) is True for module in probe.subject.model.modules())
    target = probe.target
    averaged = says and target.stochastic and min(target.draws, target.votes) >= ENOUGH
    value = f"logits differ by {apart:.1e}, {labels} of {len(images)} labels"
    value += f"; declared, {target.draws} draws, {target.votes} votes ({target.rule})" if says else ""
    random = apart > SAME or labels > 0
    value += "; random and does NOT say so" if random and not says else ""
    return Check("T16", title, value, threshold, averaged if says or random else True)


def averaged(probe: Probe) -> Check:
    """T17: more draws per gradient change nothing, a gradient stands out of its noise, and the figure is steady.

    ``|A(50) - A(20)|`` on the subset; the median over images of ``||mean|| / (std / sqrt K)``, K = 20 draws; the
    standard error of the reported accuracy over independent rescorings of the stored images.
    """
    title = "expectation over draws has converged"
    threshold = "|A(50) - A(20)| <= 1 point or one image; SNR >= 3; SE <= 0.5 point"
    if not probe.target.stochastic:
        return Check.not_applicable("T17", title, threshold, "the model is deterministic")
    if probe.empty:
        return Check.not_applicable("T17", title, threshold, "no image is classified correctly")
    rows = probe.rows[: probe.checking.survivors]
    left = [
        int(probe.attack("apgd-ce", rows, target=replace(probe.target, draws=draws), steps=20).sum())
        for draws in (1, 5, 20, 50)
    ]
    ratio, error = _signal_to_noise(probe), _standard_error(probe)
    each = ", ".join(points(count / len(rows)) for count in left)
    value = f"A(1, 5, 20, 50) = {each} %; SNR {ratio:.1f}; SE {100 * error:.2f} points"
    steady = abs(left[3] - left[2]) <= max(1, 0.01 * len(rows))
    return Check("T17", title, value, threshold, steady and ratio >= 3 and error <= 0.005)


def _signal_to_noise(probe: Probe) -> float:
    def compute() -> float:
        images, labels = probe.batch(probe.rows[:20])
        single = replace(probe.target, draws=1, mode=make_mode(probe.mode))
        draw = probe.generator("T17", "gradient")
        single.mode.start()
        each = torch.stack([per_image(single.step(images, labels, margin, draw).gradient) for _ in range(ENOUGH)])
        noise = each.var(0).sum(1).sqrt() / ENOUGH**0.5
        return float((each.mean(0).norm(dim=1) / noise.clamp_min(torch.finfo(noise.dtype).tiny)).median())

    return float(probe.value("T17-snr", compute))


def _standard_error(probe: Probe) -> float:
    """Return the standard error of the accuracy at ``radius``: its spread over ten rescorings."""
    rows = (probe.examples.is_broken & (probe.examples.broken <= probe.radius)).nonzero()[0]
    if not len(rows):
        return 0.0
    counts = []
    for trial in range(10):
        right = 0
        for number, members in enumerate(probe.chunks(rows)):
            _, labels = probe.batch(members)
            images = torch.from_numpy(probe.examples.adversarial[members]).to(probe.device)
            right += int(probe.target.correct(images, labels, probe.generator("T17", trial, number)).sum())
        counts.append(right / len(probe.examples))
    return float(np.std(counts, ddof=1))
