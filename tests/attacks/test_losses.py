"""Losses against hand-computed values and torchattacks' DLR."""

from __future__ import annotations

import math

import pytest
import torch
import torchattacks
from torch import nn

from resnet_spiking.attacks.losses import cross_entropy, dlr, find_loss, margin, targeted_dlr, targeted_margin
from resnet_spiking.errors import UserError

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [1.0, 2.5, 2.0, 0.0]])
LABELS = torch.tensor([0, 2])


def test_hand_computed_values() -> None:
    assert margin(LOGITS, LABELS).tolist() == [-2.0, 0.5]
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-2 / 3, 0.5 / 1.5])
    targets = torch.tensor([1, 0])
    assert targeted_margin(targets)(LOGITS, LABELS).tolist() == [-2.0, -1.0]
    # z_(1) - (z_(3) + z_(4)) / 2 is 3 + 0.5 and 2.5 - 0.5.
    assert targeted_dlr(targets)(LOGITS, LABELS).tolist() == pytest.approx([-2 / 3.5, -0.5])
    expected = math.log(1 + math.exp(-2) + math.exp(-3) + math.exp(-4))
    assert cross_entropy(LOGITS, LABELS)[0].item() == pytest.approx(expected)


def test_a_tie_is_no_negative_margin() -> None:
    assert margin(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([0])).item() == 0


def test_dlr_of_tied_spike_counts_stays_small() -> None:
    """Without the guard this is 2e12."""
    tied = torch.tensor([[5.0, 5.0, 5.0, 3.0]])
    assert dlr(tied, torch.tensor([3])).item() == pytest.approx(2000)
    assert dlr(torch.tensor([[1.0, 1.0]]), torch.tensor([0])).item() == 0


def test_dlr_is_that_of_torchattacks_away_from_ties() -> None:
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 6
    peer = torchattacks.APGD(nn.Identity(), loss="dlr")
    assert torch.allclose(dlr(logits, labels), peer.dlr_loss(logits, labels), atol=1e-6)


def test_cross_entropy_keeps_a_gradient_where_fp32_has_none() -> None:
    logits = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0])
    (plain,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), logits)
    (ours,) = torch.autograd.grad(cross_entropy(logits, labels).sum(), logits)
    assert plain[0, 0] == 0
    assert ours[0, 1].item() == pytest.approx(math.exp(-60), rel=1e-4)


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'margin'"):
        find_loss("margins")
