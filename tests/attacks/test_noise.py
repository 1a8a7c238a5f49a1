"""Noise: kinds, and the worst of the draws."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from attack_cases import target_of
from torch import Tensor, nn

from resnet_spiking.attacks.noise import noise
from resnet_spiking.attacks.threat import Norm, Threat


class Watched(nn.Module):
    """Keeps what it is shown; the margin of image i is its mean deviation from grey, less 1."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        deviation = (images - 0.5).mean((1, 2, 3))
        return torch.stack([torch.ones_like(deviation), deviation], dim=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("kind", "draws"), [("uniform", 4), ("corner", 4), ("both", 8)])
def test_kinds_and_the_worst_draw(
    norm: Norm, kind: Literal["uniform", "corner", "both"], draws: int, generator: torch.Generator
) -> None:
    model, images = Watched(), torch.full((3, 1, 4, 4), 0.5)
    target = target_of(model, images)
    del model.seen[:]
    threat, labels = Threat(norm, 0.2), torch.zeros(3, dtype=torch.long)
    found = noise(target, images, labels, threat, generator=generator, kind=kind, tries=4)
    assert len(model.seen) == 1 + draws
    sizes = torch.stack([threat.size(seen - images) for seen in model.seen[1:]])
    assert (sizes <= 0.2 + 1e-6).all()
    corners = {"uniform": sizes[:0], "corner": sizes, "both": sizes[1::2]}[kind]
    assert torch.allclose(corners, torch.tensor(0.2))
    if norm == "linf" and kind == "corner":
        assert all(torch.allclose((seen - 0.5).abs(), torch.tensor(0.2)) for seen in model.seen[1:])
    margins = torch.stack([(seen - 0.5).mean((1, 2, 3)) - 1 for seen in model.seen])
    assert torch.allclose(found.margin, margins.amax(0))
    assert torch.allclose((found.images - 0.5).mean((1, 2, 3)) - 1, found.margin)
