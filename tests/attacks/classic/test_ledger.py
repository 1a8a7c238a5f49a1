from __future__ import annotations

from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spiking.attacks.best import Best
from resnet_spiking.attacks.classic.ledger import AllBroken, Ledger, best_of_each, holders
from resnet_spiking.attacks.threat import Norm, Threat


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.sampled_from(["linf", "l2"]), st.floats(0.05, 1), st.integers(1, 6), st.integers(1, 6))
def test_holders_are_all_balls_that_hold_an_iterate(seed: int, norm: Norm, eps: float, m: int, a: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(a, 1, 8, 8, generator=generator)
    iterates = images[torch.randint(a, (m,), generator=generator)]
    iterates = iterates + (0.3 * torch.rand(m, 1, 1, 1, generator=generator)) * torch.randn(
        iterates.shape, generator=generator
    )
    iterates = iterates.clamp(0, 1.05)
    found = set(zip(*(each.tolist() for each in holders(iterates, images, Threat(norm, eps))), strict=True))
    order = torch.inf if norm == "linf" else 2
    expected = {
        (row, owner)
        for row in range(m)
        for owner in range(a)
        if float(iterates[row].max()) <= 1
        and float(torch.linalg.vector_norm((iterates[row] - images[owner]).double(), order)) <= eps + 5e-7
    }
    everywhere = {(index, index) for index in range(a)}
    assert found == expected or (m == a and everywhere <= expected and found == everywhere)


def test_rounding_of_the_border_is_inside_and_nan_is_not() -> None:
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.9
    eps = 0.25 / 255
    iterates = images + eps
    assert float((iterates - images).max()) > eps
    rows, owners = holders(iterates, images, Threat("linf", eps))
    assert torch.equal(rows, torch.arange(200))
    assert torch.equal(rows, owners)
    iterates[3, 0, 0, 0] = torch.nan
    assert 3 not in holders(iterates, images, Threat("linf", eps))[0]


def test_the_best_of_each_owner() -> None:
    owners = torch.tensor([4, 1, 4, 1, 2, 3])
    margins = torch.tensor([0.5, -1.0, 0.7, torch.nan, torch.inf, -3.0])
    assert sorted(best_of_each(owners, margins).tolist()) == [1, 2, 5]
    assert best_of_each(owners[:0], margins[:0]).tolist() == []


def test_a_subset_of_the_batch_counts_for_its_own_images() -> None:
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(6)
    best = Best(images)
    ledger = Ledger(best, torch.arange(6), images, labels, Threat("linf", 0.1), count(1))
    moved = (images + 0.05).clamp(0, 1)
    # Margins by label, so that a mistaken owner shows; nothing succeeds.
    ledger.note(moved[[5, 2]], lambda rows, truth: -1.0 - truth)
    assert best.margin[[2, 5]].tolist() == [-3.0, -6.0]
    assert torch.equal(best.images[[2, 5]], moved[[2, 5]])
    assert best.margin[[0, 1, 3, 4]].isinf().all()
    with pytest.raises(AllBroken):
        ledger.note(moved, lambda rows, truth: truth.float())
    assert best.success.all()
    assert best.steps.tolist() == [2] * 6


def test_an_iterate_outside_the_ball_counts_for_nothing() -> None:
    images = torch.full((1, 1, 8, 8), 0.5)
    best = Best(images)
    ledger = Ledger(best, torch.arange(1), images, torch.zeros(1).long(), Threat("linf", 0.1), count(1))
    ledger.note(images + 0.11, lambda rows, truth: torch.ones(len(rows)))
    assert not best.success.any()
    assert torch.equal(best.images, images)
