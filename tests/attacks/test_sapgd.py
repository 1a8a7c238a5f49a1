"""SA-PGD: closed form, scale-free steps, its guard where gradients vanish."""

from __future__ import annotations

import itertools

import pytest
import torch
from attack_cases import Fixed, Scaled, linear_case, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.apgd import apgd
from resnet_spiking.attacks.sapgd import sapgd
from resnet_spiking.attacks.threat import Norm, Threat


@pytest.mark.parametrize("scale", [1.0, 1e-15])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_exactly_when_the_closed_form_says_so(norm: Norm, scale: float, generator: torch.Generator) -> None:
    case = linear_case()
    distance = getattr(case, norm)
    target = target_of(Scaled(case.model, scale), case.images)
    for factor, success in ((0.99, False), (1.01, True)):
        for image in range(len(case.images)):
            one = slice(image, image + 1)
            threat = Threat(norm, factor * float(distance[image]))
            found = sapgd(target, case.images[one], case.labels[one], threat, generator=generator)
            assert found.success.item() is success


def test_the_first_steps_by_hand(generator: torch.Generator) -> None:
    """One pixel: ``g / mean|g| = 1`` and ``g^2 / mean g^2 = 1``, so t = eta, then eta 1.5 / sqrt(1.8) cut to eta, …

    Every step of so short a run is a checkpoint, where eta is halved.
    """
    seen: list[float] = []

    class Slope(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(float(images.detach().flatten()[0]))
            light = images.mean((1, 2, 3))
            return torch.stack([1 - light, torch.zeros_like(light)], dim=1)

    images, labels = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    target = target_of(Slope(), images)
    del seen[:]
    found = sapgd(target, images, labels, Threat("linf", 0.1), generator=generator, steps=4)
    clean, start, *rest = seen
    assert (clean, abs(start - 0.5)) == (0.5, pytest.approx(0.1))
    gone = itertools.accumulate([0.1, 0.05, 0.025, 0.0125])
    assert rest == pytest.approx([min(start + far, 0.6) for far in gone])
    assert found.images.item() == pytest.approx(rest[-1])


def test_close_to_apgd_on_a_smooth_network(
    trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    target, threat = target_of(trained, images), Threat("linf", 0.07)
    found = sapgd(target, images, labels, threat, generator=generator, steps=50).success.sum()
    other = apgd(target, images, labels, threat, generator=generator, steps=50).success.sum()
    assert 0 < other < len(images)
    assert abs(int(found) - int(other)) <= 2


def test_a_zero_gradient_starts_again_from_new_noise(generator: torch.Generator) -> None:
    points: list[Tensor] = []

    class Watched(Fixed):
        def forward(self, images: Tensor) -> Tensor:
            points.append(images.detach().clone())
            return super().forward(images)

    images, labels = torch.full((2, 1, 3, 3), 0.5), torch.tensor([0, 0])
    target = target_of(Watched([1.0, 0.0]), images)
    del points[:]
    found = sapgd(target, images, labels, Threat("linf", 0.1), generator=generator, steps=5)
    assert not found.success.any()
    assert len({tuple(point.flatten().tolist()) for point in points}) == 7  # clean, start, one for each step
    for point in points[1:]:
        assert (point - 0.5).abs().amax((1, 2, 3)).tolist() == pytest.approx([0.1, 0.1])
