"""Does the same code break what must break?"""

from __future__ import annotations

from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe

STRONG = 8 / 255


def undefended(probe: Probe) -> Check:
    """T21: the undefended control (Default: the same trunk, a linear head) falls to at most 1 % at 8/255.

    Planted models without gradient, with noise, NaN or saturated logits are controls of the test suite; the
    reference of adversarially trained models needs RobustBench's weights and is not measured.
    """
    title, threshold = "undefended control falls", "<= 1 % at the first radius from 8/255 on (Linf)"
    table = probe.examples if probe.subject.name == "default" else None
    if table is None and "default" in probe.others:
        table = probe.others["default"][1].examples
    if table is None:
        return Check.not_applicable("T21", title, threshold, "no Default among the runs")
    if table.norm != "linf" or float(table.eps[-1]) < STRONG:
        return Check.not_applicable("T21", title, threshold, "the sweep does not reach 8/255 in Linf")
    if table.images.shape[1] == 1:
        reason = "8/255 is what natural images fall at; these are grey drawings"
        return Check.not_applicable("T21", title, threshold, reason)
    radius = int((table.eps >= STRONG).argmax())
    accuracy = float(table.surviving(radius).mean())
    value = f"{points(accuracy)} % at {table.eps[radius] * 255:g}/255; RobustBench reference not measured"
    return Check("T21", title, value, threshold, accuracy <= 0.01)
