from __future__ import annotations

import pytest
import torch
from attack_cases import Votes, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.bundles import Stage
from resnet_spiking.attacks.chunk import attack_chunk, misclassified


def test_a_stochastic_image_is_broken_by_three_verdicts(generator: torch.Generator) -> None:
    """Of images that lose one in two verdicts an eighth loses three."""
    images, labels = torch.rand(4000, 1, 1, 1), torch.zeros(4000, dtype=torch.long)
    target = target_of(Votes([0.5, 0.5]), images[:8], votes=1)
    assert misclassified(target, images, labels, generator).float().mean().item() == pytest.approx(0.5**3, abs=0.03)


def test_an_image_outside_the_box_alone_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    from resnet_spiking.attacks.names import ATTACKS, AttackEntry

    monkeypatch.setitem(
        ATTACKS, "leaving", AttackEntry("leaving", f"{__name__}:leaving", ("linf",), "white-box", "", {})
    )
    images, labels = torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)

    class Dark(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            light = images.mean((1, 2, 3))
            return torch.stack([0.05 + light, torch.zeros_like(light)], dim=1)

    target = target_of(Dark(), images)
    piece = attack_chunk(Stage("leaving"), target, images, labels, "linf", 0.1, generator, generator)
    assert not piece["broken"].any()
    assert piece["spent"][-1] == 3


def leaving(target, images, labels, threat, *, generator):  # type: ignore[no-untyped-def]
    from resnet_spiking.attacks.best import Outcome

    yes = torch.ones(len(images), dtype=torch.bool)
    return Outcome(images - threat.eps, yes, torch.ones(len(images)), torch.ones(len(images), dtype=torch.long))


def test_of_several_transfers_the_one_of_largest_margin_is_kept() -> None:
    from resnet_spiking.attacks.best import Outcome
    from resnet_spiking.attacks.chunk import _best_of

    def outcome(level: float, margins: list[float]) -> Outcome:
        margin = torch.tensor(margins)
        return Outcome(torch.full((2, 1, 1, 1), level), margin >= 0, margin, torch.full((2,), int(level)))

    found = _best_of([outcome(1, [-1.0, 2.0]), outcome(2, [0.5, -3.0])])
    assert found.images.flatten().tolist() == [2.0, 1.0]
    assert found.margin.tolist() == [0.5, 2.0]
    assert found.success.all()
