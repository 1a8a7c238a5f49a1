"""All radii in one batch, each image on its own way down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_spiking.attacks.apgd import ApgdCourse
from resnet_spiking.attacks.best import Best, Outcome
from resnet_spiking.attacks.climb import Climb, Query, answer
from resnet_spiking.attacks.target import Step, Target
from resnet_spiking.attacks.threat import Norm, Threat


class Attempt(NamedTuple):
    """What the attack found for the images at ``rows [A]`` at one radius, by its position."""

    rows: Tensor
    radius: int
    outcome: Outcome


def descend(
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    radii: Sequence[float],
    first: Tensor,
    course: ApgdCourse,
    generator: torch.Generator,
) -> list[Attempt]:
    """Attack each image at radius ``first [B]`` (a position in ascending ``radii``), and as it falls at smaller ones.

    An image that falls starts at the next smaller radius in the next step, beside those that still climb at the larger
    one, so the batch shrinks only as images stand or are out of radii. Each of the attempts is the attack as it
    is at that radius alone, random start and step sizes included.

    Raises ``ValueError`` for a gradient mode with state per image: images of different climbs would share it.
    """
    if target.mode.per_image:
        raise ValueError(f"gradient mode {target.mode.name!r} keeps state per image; attack one radius after the other")
    clean_margin = target.margins(images, labels, generator)
    attempts: list[Attempt] = []

    def begin(rows: Tensor, radius: int) -> _Walk:
        best = Best(images[rows])
        best.update(best.active, images[rows], clean_margin[rows], 0)
        threat = Threat(norm, radii[radius])
        climb = course.climb(target, images[rows], labels[rows], course.goals[rows], threat, best, generator)
        return _Walk(rows, radius, best, climb)

    walks = [begin((first == radius).nonzero().squeeze(1), radius) for radius in first.unique().tolist()]
    while walks:
        fallen: dict[int, list[Tensor]] = {}
        for walk in walks:
            if walk.radius:
                fallen.setdefault(walk.radius - 1, []).append(walk.newly_fallen())
            if walk.outcome:
                attempts.append(Attempt(walk.rows, walk.radius, walk.outcome))
        walks = [walk for walk in walks if not walk.outcome]
        asking = [walk for walk in walks if walk.query]
        found = answer(target, [walk.query for walk in asking if walk.query], course.loss_of, generator)
        for walk, step in zip(asking, found, strict=True):
            walk.go_on(step)
        walks += [begin(rows, radius) for radius, parts in fallen.items() if len(rows := torch.cat(parts))]
    return attempts


class _Walk:
    """One climb in progress: the images at ``rows`` at one radius."""

    def __init__(self, rows: Tensor, radius: int, best: Best, climb: Climb) -> None:
        self.rows, self.radius, self.best = rows, radius, best
        self.query: Query | None = None
        self.outcome: Outcome | None = None
        self._climb = climb
        self._known = torch.zeros_like(best.success)
        self.go_on(None)

    def go_on(self, found: Step | None) -> None:
        """Give the climb the answer to its query (none to begin with), and take its next query or its outcome."""
        try:
            self.query = self._climb.send(found) if found else next(self._climb)
        except StopIteration as end:
            self.query, self.outcome = None, end.value

    def newly_fallen(self) -> Tensor:
        """Return the rows of the images that have succeeded since the last call."""
        new = self.best.success & ~self._known
        self._known = self.best.success.clone()
        return self.rows[new]
