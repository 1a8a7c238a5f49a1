"""Would the attacks have gone further with more iterations or restarts?"""

from __future__ import annotations

import numpy as np

from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe
from resnet_spiking.attacks.trust.recording import recording

LAST = 10


def converged(probe: Probe) -> Check:
    """T08: five times the iterations, and five restarts, break hardly any more of the bundle's survivors.

    Extrapolated from the survivors tried to all of them. Beside it the incomplete-optimisation
    indicator: the running best loss, rescaled to [0, 1] over the run, spreads over its last ten steps by no
    more than 0.05 (median over images).

    Source of the indicator: Pintor et al., "Indicators of attack failure", NeurIPS 2022.
    """
    title = "more iterations and restarts change nothing"
    threshold = "accuracy falls by <= 1 point; spread <= 0.05"
    rows = probe.survivors()
    if not len(rows):
        return Check.not_applicable("T08", title, threshold, "nothing survives the bundle")
    checking, eps = probe.checking, float(probe.settings.eps[probe.radius])
    longer = ~probe.attack("apgd-ce", rows, eps=eps, steps=checking.long_steps)
    again = ~probe.attack("apgd-ce", rows, eps=eps, steps=checking.steps, restarts=checking.restarts)
    fall = probe.share_of_all(int((longer | again).sum()), len(rows))
    spread = _spread(probe, rows, eps)
    value = (
        f"{checking.long_steps} iterations break {longer.sum()}, {checking.restarts} restarts {again.sum()} of "
        f"{len(rows)} survivors at {probe.radius_text(eps)}: {points(fall)} points; spread {spread:.3f}"
    )
    return Check("T08", title, value, threshold, fall <= 0.01 and spread <= 0.05)


def _spread(probe: Probe, rows: np.ndarray, eps: float) -> float:
    """Return the median over images of the share of its growth that the best loss made in the last steps."""

    def compute() -> float:
        images, labels = probe.batch(rows)
        watched = recording(probe.target, make_mode(probe.mode))
        draw, threat = probe.generator("T08"), Threat(probe.settings.norm, eps)
        entry = find_attack("apgd-ce")
        entry.load()(watched, images, labels, threat, generator=draw, **{**entry.preset, "steps": probe.checking.steps})
        curves = [np.maximum.accumulate(watched.record.curve(image)) for image in range(len(rows))]
        whole = [curve for curve in curves if len(curve) > LAST]
        spreads = [(curve[-1] - curve[-LAST]) / (curve[-1] - curve[0]) for curve in whole if curve[-1] > curve[0]]
        return float(np.median(spreads)) if spreads else 0.0

    return float(probe.value("T08-spread", compute))
