"""Does anything that needs no gradient of this model beat what has it?"""

from __future__ import annotations

import numpy as np
import torch

from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED
from resnet_spiking.attacks.names import ATTACKS
from resnet_spiking.attacks.trust.check import Check, points
from resnet_spiking.attacks.trust.probe import Probe


def gradients_win(probe: Probe) -> Check:
    """T11: black-box attacks and transfer break hardly any image that the white-box attacks left.

    The share of all images, extrapolated from the survivors tried; one image that another model's gradient or
    a search without gradient breaks is what gradient masking looks like.

    Source of the threshold: AutoAttack's own flag, 0.2 % of the images.
    """
    title, threshold = "black-box no stronger than white-box", "new successes <= 0.2 % of images at each eps"
    table = probe.examples
    places = [place for place, stage in enumerate(table.stages.tolist()) if _is_black_box(stage)]
    if not places or len(places) == len(table.stages):
        return Check.not_applicable("T11", title, threshold, "the bundle has not both kinds of attack")
    worst, parts = 0.0, []
    for radius, eps in enumerate(table.eps.tolist()):
        for place in places:
            tried = int((table.tried[radius, place] != NOT_TRIED).sum())
            new = int((table.tried[radius, place] == BROKEN).sum())
            if not tried:
                continue
            # Later stages saw what this one left; the images it stands for are those it was chosen from. In descending
            # order these are no images that stand in a larger ball: their attempts are entered there.
            chosen = table.surviving(radius)
            if probe.settings.order == "descending":
                chosen = chosen & ~table.inferred(radius)
            left = int((chosen | (table.tried[radius, place] != NOT_TRIED)).sum())
            worst = max(worst, new / tried * left / len(table))
            if new:
                parts.append(f"{table.stages[place]} {new} of {tried} at {probe.radius_text(eps)}")
    value = f"{100 * worst:.2f} %" + (f" ({'; '.join(parts)})" if parts else "")
    return Check("T11", title, value, threshold, worst <= 0.002)


def _is_black_box(stage: str) -> bool:
    """Say whether a stage is a black-box search or a transfer; noise, which is on every image, is not."""
    attack = stage.split("+")[0].split(" ")[0]
    return attack in ATTACKS and ATTACKS[attack].kind == "black-box" and attack != "noise"


def transfer_from_twin(probe: Probe) -> Check:
    """T18: adversarial images of the same model trained from another seed fool this one no more often than its own.

    Images that a twin's sweep kept are rescored; among those broken at the smallest radius either way.
    """
    title, threshold = "twin's images no stronger than own", "success of the twin's <= own success"
    twin = next(
        (
            (name, found)
            for name, (other, found) in probe.others.items()
            if other.variant == probe.subject.variant and other.sha256 != probe.subject.sha256
        ),
        None,
    )
    if twin is None:
        return Check.not_applicable("T18", title, threshold, "no run of the same variant from another seed is given")
    name, found = twin
    radius = probe.radius
    theirs = found.examples.is_broken & (found.examples.broken <= radius)
    rows = (theirs & probe.examples.clean_correct).nonzero()[0]
    if not len(rows):
        return Check.not_applicable("T18", title, threshold, f"{name} has no adversarial image to transfer")
    fooled = []
    for number, members in enumerate(probe.chunks(rows)):
        _, labels = probe.batch(members)
        images = torch.from_numpy(found.examples.adversarial[members]).to(probe.device)
        fooled.append(~probe.target.correct(images, labels, probe.generator("T18", number)).cpu().numpy())
    transferred = float(np.concatenate(fooled).mean())
    own = float((probe.examples.broken[rows] <= radius).mean())
    value = f"{points(transferred)} % from {name}, {points(own)} % own"
    return Check("T18", title, value, threshold, transferred <= own)
