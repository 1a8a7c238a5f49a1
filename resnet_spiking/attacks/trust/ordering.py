"""Do attacks come out in the order that theory puts them in?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe

# On a subset a difference of one image is no evidence: every threshold in points is at least one image.
ONE = 1
NO_IMAGE = "no image is classified correctly"
RADII = {"linf": tuple(level / 255 for level in (1, 2, 4, 8, 16, 32, 64, 255)), "l2": (0.05, 0.1, 0.25, 0.5, 1.0)}


def noise_floor(probe: Probe) -> Check:
    """T04: the main attack is at least as strong as the worst of random draws from ball and corners."""
    title, threshold = "stronger than random noise", "accuracy under attack <= under noise"
    if probe.empty:
        return Check.not_applicable("T04", title, threshold, NO_IMAGE)
    noise = _standing(probe, "noise", mode="own")
    attacked = _standing(probe, "apgd-ce", steps=probe.checking.steps)
    count = len(probe.rows)
    value = f"{points(noise / count)} % under noise, {points(attacked / count)} % under attack"
    return Check("T04", title, value, threshold, attacked <= noise)


def more_steps(probe: Probe) -> Check:
    """T05: FGSM leaves no fewer images than PGD-10, that than PGD-100, that than APGD-100."""
    title, threshold = "FGSM >= PGD-10 >= PGD >= APGD", "a rise of <= 0.5 point or one image"
    if probe.empty:
        return Check.not_applicable("T05", title, threshold, NO_IMAGE)
    steps = probe.checking.steps
    left = [
        _standing(probe, "fgsm"),
        _standing(probe, "pgd", steps=10),
        _standing(probe, "pgd", steps=steps),
        _standing(probe, "apgd-ce", steps=steps),
    ]
    return Check("T05", title, _percentages(left, probe), threshold, _worst_rise(left) <= _allowed(0.005, probe))


def monotone(probe: Probe) -> Check:
    """T06: the same attack, run afresh at each radius, leaves fewer images at larger ones.

    Reported figures cannot rise, since an image broken at a radius counts as broken at larger ones. Of a sweep in
    descending order, the first images that were taken to stand somewhere are attacked there after all.
    """
    title, threshold = "accuracy falls with eps", "a rise of <= 1 point or one image"
    if probe.empty:
        return Check.not_applicable("T06", title, threshold, NO_IMAGE)
    radii = sorted({*RADII[probe.settings.norm], *probe.settings.eps} - {0.0})
    steps = min(20, probe.checking.steps)
    left = [_standing(probe, "apgd-ce", eps=eps, steps=steps) for eps in radii]
    value = _percentages([len(probe.rows), *left], probe)
    passed = _worst_rise([len(probe.rows), *left]) <= _allowed(0.01, probe)
    if probe.settings.order == "descending":
        fallen, tried = _inferred(probe)
        value += f"; {fallen} of {tried} that were taken to stand fall"
        passed = passed and fallen <= ONE
    return Check("T06", title, value, threshold, passed)


def _inferred(probe: Probe) -> tuple[int, int]:
    """Attack images at the largest radius where they were taken to stand; return how many fall, and of how many."""
    table = probe.examples
    rows = table.inferred(0).nonzero()[0][: probe.checking.survivors]
    radii = table.broken[rows] - 2
    standing = [
        probe.attack("apgd-ce", rows[radii == radius], eps=float(table.eps[radius]), steps=probe.checking.steps)
        for radius in np.unique(radii).tolist()
    ]
    return len(rows) - int(sum(map(np.sum, standing))), len(rows)


def unbounded(probe: Probe) -> Check:
    """T07: with the whole box allowed (Linf, eps = 1) nothing survives."""
    title, threshold = "eps = 1 breaks everything", "<= 1 % left"
    if probe.empty:
        return Check.not_applicable("T07", title, threshold, NO_IMAGE)
    left = _standing(probe, "apgd-ce", eps=1.0, norm="linf", steps=probe.checking.steps)
    return Check("T07", title, f"{points(left / len(probe.rows))} %", threshold, left <= 0.01 * len(probe.rows))


def _standing(probe: Probe, attack: str, **arguments: object) -> int:
    return int(np.sum(probe.attack(attack, **arguments)))  # type: ignore[arg-type]


def _worst_rise(left: list[int]) -> int:
    return max((later - earlier for earlier, later in pairwise(left)), default=0)


def _allowed(share: float, probe: Probe) -> float:
    return max(ONE, share * len(probe.rows))


def _percentages(left: list[int], probe: Probe) -> str:
    return ", ".join(points(count / len(probe.rows)) for count in left) + f" % of {len(probe.rows)}"
