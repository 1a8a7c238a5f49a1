"""The record of the best iterate."""

from __future__ import annotations

import torch

from resnet_spiking.attacks.best import Best


def test_the_first_success_is_kept_and_before_it_the_largest_margin() -> None:
    images = torch.zeros(3, 1, 1, 1)
    best = Best(images)
    everything = torch.arange(3)
    best.update(everything, images + 0.1, torch.tensor([-2.0, -1.0, 0.5]), 1)
    assert best.active.tolist() == [0, 1]
    best.update(everything, images + 0.2, torch.tensor([-3.0, 0.0, 9.0]), 2)
    best.update(everything, images + 0.3, torch.tensor([-2.5, 4.0, 9.0]), 3)
    found = best.outcome()
    assert found.success.tolist() == [False, True, True]
    assert found.images.flatten().tolist() == torch.tensor([0.1, 0.2, 0.1]).tolist()
    assert found.margin.tolist() == [-2.0, 0.0, 0.5]
    assert found.steps.tolist() == [1, 2, 1]


def test_what_is_not_finite_is_no_success() -> None:
    images = torch.zeros(3, 1, 1, 1)
    best = Best(images)
    broken = torch.tensor([0.0, 0.0, torch.nan]).view(3, 1, 1, 1)
    best.update(torch.arange(3), broken, torch.tensor([torch.nan, torch.inf, 1.0]), 1)
    assert not best.success.any()
    assert torch.equal(best.images, images)
