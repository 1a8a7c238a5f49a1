"""How much of the figure is the attack's surrogate?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe
from resnet_spiking.errors import UserError

NO_SPIKES = "the model has no spikes: there is one gradient"
OTHER_MODES = ("bptr", "ste", "rga", "hart", "relu", "expected")
GAIN = 0.03


def sensitivity(probe: Probe) -> Check:
    """T12: surrogates differ, and no single one is far from their union.

    Spread S of the accuracies under each surrogate (same attack, same images) and gain U of the union over
    the best of them. Surrogates that leave bit-identical gradients were not in force at all; a slope at the edge of
    the grid that wins by more than the allowed gain asks for a wider grid. Of a family with two slopes both are edges:
    where one wins so, the next one beyond it is tried, and must not win as much again.
    """
    title = "surrogate grid is wide enough"
    threshold = "gradients differ; U <= 3 points or one image; no edge ahead by more"
    reason = NO_SPIKES if not probe.subject.spiking else "no image is classified correctly" if probe.empty else ""
    if reason:
        return Check.not_applicable("T12", title, threshold, reason)
    grid = probe.checking.surrogates
    try:
        swapped = _gradients_differ(probe, grid)
        standing = {mode: probe.attack("apgd-ce", mode=mode, steps=probe.checking.steps) for mode in grid}
    except UserError as error:
        return Check.not_applicable("T12", title, threshold, str(error))
    left = {mode: int(kept.sum()) for mode, kept in standing.items()}
    union = int(np.logical_and.reduce(list(standing.values())).sum())
    count, best = len(probe.rows), min(left.values())
    allowed = max(1, GAIN * count)
    for beyond in _beyond(left, allowed):
        left[beyond] = int(probe.attack("apgd-ce", mode=beyond, steps=probe.checking.steps).sum())
    ahead = _edge_ahead(left)
    each = ", ".join(f"{mode} {points(kept / count)}" for mode, kept in left.items())
    value = f"{each} %; S {points((max(left.values()) - best) / count)}, U {points((best - union) / count)} points" + (
        "" if swapped else "; gradients are IDENTICAL: the surrogate is not swapped"
    )
    return Check("T12", title, value, threshold, swapped and best - union <= allowed and ahead <= allowed)


def _gradients_differ(probe: Probe, grid: Sequence[str]) -> bool:
    images, labels = probe.batch(probe.rows[:8])
    found: list[Tensor] = []
    for mode in grid:
        target = probe.target.using(make_mode(mode))
        target.mode.start()
        found.append(target.step(images, labels, margin, probe.generator("T12")).gradient)
    return all(not torch.equal(one, other) for place, one in enumerate(found) for other in found[:place])


def _beyond(left: dict[str, int], allowed: float) -> list[str]:
    """Return, for each family of two slopes of which one wins by more than ``allowed``, the slope beyond that one."""
    found = []
    for family, slopes in _families(left).items():
        if len(slopes) == 2 and abs(left[slopes[0]] - left[slopes[1]]) > allowed:
            flat, steep = map(_slope, slopes)
            next_ = flat**2 / steep if left[slopes[0]] < left[slopes[1]] else steep**2 / flat
            found.append(f"{family}:{next_:g}")
    return found


def _edge_ahead(left: dict[str, int]) -> int:
    """Return by how many images the flattest or steepest of three slopes or more beats the best of those between."""
    ahead = 0
    for slopes in _families(left).values():
        if len(slopes) > 2:
            inner = min(left[mode] for mode in slopes[1:-1])
            ahead = max(ahead, inner - left[slopes[0]], inner - left[slopes[-1]])
    return ahead


def _families(modes: Iterable[str]) -> dict[str, list[str]]:
    """Return family → its modes, the flattest first."""
    found: dict[str, list[str]] = {}
    for mode in sorted(modes, key=_slope):
        found.setdefault(mode.split(":")[0], []).append(mode)
    return found


def _slope(mode: str) -> float:
    return float((mode + ":1").split(":")[1])


def own_surrogate(probe: Probe) -> Check:
    """T13: the common grid breaks at least what the surrogate of training breaks: else that one belongs in the grid.

    Models are ranked by the union alone.
    """
    title, threshold = "grid no weaker than training's surrogate", "grid's union <= own + one image"
    reason = NO_SPIKES if not probe.subject.spiking else "no image is classified correctly" if probe.empty else ""
    if reason:
        return Check.not_applicable("T13", title, threshold, reason)
    steps = probe.checking.steps
    try:
        own = probe.attack("apgd-ce", mode="own", steps=steps)
        grid = [probe.attack("apgd-ce", mode=mode, steps=steps) for mode in probe.checking.surrogates]
    except UserError as error:
        return Check.not_applicable("T13", title, threshold, str(error))
    union = int(np.logical_and.reduce(grid).sum())
    count = len(probe.rows)
    value = f"{points(int(own.sum()) / count)} % under own, {points(union / count)} % under the grid"
    return Check("T13", title, value, threshold, union <= int(own.sum()) + 1)


def other_modes(probe: Probe) -> Check:
    """T14: differentiating otherwise (rates, straight through, rectifiers, means) breaks hardly any more survivors.

    Extrapolated from the survivors tried to all of them.
    """
    title, threshold = "other gradient modes add nothing", "accuracy falls by <= 2 points"
    rows = probe.survivors()
    if not probe.subject.spiking:
        return Check.not_applicable("T14", title, threshold, NO_SPIKES)
    if not len(rows):
        return Check.not_applicable("T14", title, threshold, "nothing survives the bundle")
    eps = float(probe.settings.eps[probe.radius])
    broken, parts = np.zeros(len(rows), bool), []
    for mode in OTHER_MODES:
        if mode == "expected" and not probe.target.stochastic:
            continue
        try:
            new = ~probe.attack("apgd-ce", rows, mode=mode, eps=eps, steps=probe.checking.steps)
        except UserError:
            parts.append(f"{mode} –")
            continue
        broken |= new
        parts.append(f"{mode} {int(new.sum())}")
    fall = probe.share_of_all(int(broken.sum()), len(rows))
    value = f"{', '.join(parts)} of {len(rows)} survivors at {probe.radius_text(eps)}: {points(fall)} points"
    return Check("T14", title, value, threshold, fall <= 0.02)
