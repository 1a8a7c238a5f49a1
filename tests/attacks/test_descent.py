"""All radii in one batch: the closed form of a linear model, and what the batch saves."""

from __future__ import annotations

import itertools

import pytest
import torch
from attack_cases import linear_case, target_of
from torch import Tensor

from resnet_spiking.attacks.apgd import targeted, untargeted
from resnet_spiking.attacks.descent import Attempt, descend
from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.losses import Loss
from resnet_spiking.attacks.target import Step, Target
from resnet_spiking.attacks.threat import Norm


def smallest_fallen(attempts: list[Attempt], count: int, radii: int) -> list[int]:
    fallen = torch.full((count,), radii)
    for rows, radius, outcome in attempts:
        hit = rows[outcome.success]
        fallen[hit] = fallen[hit].clamp_max(radius)
    return fallen.tolist()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["untargeted", "targeted"])
def test_each_image_falls_down_to_its_distance(norm: Norm, kind: str, generator: torch.Generator) -> None:
    """Success begins at the distance to the border ``|m| / ||w||_q``, at each radius whatever else is in the batch."""
    case = linear_case(classes=2 if kind == "untargeted" else 5, count=12)
    target = target_of(case.model, case.images)
    distances = getattr(case, norm)
    ordered = distances.sort().values
    radii = [0.0, *((ordered[1:] + ordered[:-1]) / 2).tolist(), 1.05 * float(ordered[-1])]
    make = untargeted if kind == "untargeted" else targeted
    course = make(target, case.images, case.labels, generator=generator, steps=100, loss="margin")
    first = torch.full((12,), len(radii) - 1)
    attempts = descend(target, case.images, case.labels, norm, radii, first, course, generator)
    expected = [sum(radius < distance for radius in radii) for distance in distances.tolist()]
    assert smallest_fallen(attempts, 12, len(radii)) == expected
    tried = sorted((row, attempt.radius) for attempt in attempts for row in attempt.rows.tolist())
    assert tried == [(row, at) for row in range(12) for at in range(expected[row] - 1, len(radii)) if at >= 0]
    for rows, radius, outcome in attempts:
        change = (outcome.images - case.images[rows]).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert (size <= radii[radius] + 1e-6).all()


def test_images_begin_where_they_are_told(generator: torch.Generator) -> None:
    case = linear_case(count=6)
    target = target_of(case.model, case.images)
    course = untargeted(target, case.images, case.labels, generator=generator, steps=10)
    first = torch.tensor([0, 1, 2, 2, 1, 0])
    tiny = [1e-6, 2e-6, 3e-6]
    attempts = descend(target, case.images, case.labels, "linf", tiny, first, course, generator)
    assert {row: attempt.radius for attempt in attempts for row in attempt.rows.tolist()} == dict(
        enumerate(first.tolist())
    )


def test_images_at_different_radii_share_a_batch(generator: torch.Generator) -> None:
    """A climb fails after its 100 looks, the 100th without gradient, whatever others do beside it."""
    case = linear_case(count=9)
    sizes: list[int] = []

    class Watched(Target):
        def step(self, images: Tensor, labels: Tensor, loss: Loss, generator: torch.Generator | None = None) -> Step:
            sizes.append(len(images))
            return super().step(images, labels, loss, generator)

    target = Watched(**vars(target_of(case.model, case.images)))
    course = untargeted(target, case.images, case.labels, generator=generator, steps=100)
    first = torch.arange(9) % 3
    descend(target, case.images, case.labels, "linf", [1e-6, 2e-6, 3e-6], first, course, generator)
    assert sizes == [9] * 100


def test_an_image_that_is_wrong_from_the_start_falls_everywhere_at_no_cost(generator: torch.Generator) -> None:
    case = linear_case(count=4)
    target = target_of(case.model, case.images)
    course = untargeted(target, case.images, 1 - case.labels, generator=generator)
    attempts = descend(target, case.images, 1 - case.labels, "linf", [0.1, 0.2], torch.full((4,), 1), course, generator)
    assert smallest_fallen(attempts, 4, 2) == [0] * 4
    assert target.meter.backwards == 0
    assert all(torch.equal(outcome.images, case.images[rows]) for rows, _, outcome in attempts)


def test_modes_with_state_per_image_are_refused(generator: torch.Generator) -> None:
    case = linear_case(count=2)
    target = target_of(case.model, case.images).using(make_mode("assg"))
    course = untargeted(target, case.images, case.labels, generator=generator)
    with pytest.raises(ValueError, match="assg"):
        descend(target, case.images, case.labels, "linf", [0.1], torch.zeros(2, dtype=torch.long), course, generator)


def test_only_modes_that_select_keep_state() -> None:
    stateful = {"assg"}
    for name in ("own", "atan:2", "triangle:1", "ste", "bptr", "rga", "hart", "relu", "expected", "assg"):
        assert make_mode(name).per_image == (name in stateful), name


def test_no_two_climbs_hold_the_same_image(generator: torch.Generator) -> None:
    case = linear_case(count=10)
    target = target_of(case.model, case.images)
    course = untargeted(target, case.images, case.labels, generator=generator, steps=20)
    radii = [0.2 * float(case.linf.max()), 0.6 * float(case.linf.max()), 2 * float(case.linf.max())]
    attempts = descend(target, case.images, case.labels, "linf", radii, torch.full((10,), 2), course, generator)
    by_radius = [set(itertools.chain(*(a.rows.tolist() for a in attempts if a.radius == at))) for at in range(3)]
    assert sum(len(a.rows) for a in attempts) == sum(map(len, by_radius))
    assert by_radius[0] <= by_radius[1] <= by_radius[2] == set(range(10))
