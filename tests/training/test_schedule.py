from __future__ import annotations

import pytest
import torch

from resnet_spiking.randomness import generator_for
from resnet_spiking.training.schedule import rate_at


def test_cosine_warms_up_peaks_and_ends_near_zero() -> None:
    rates = [rate_at(step, 100, "cosine") for step in range(100)]
    assert rates[0] < 0.15
    assert rates.index(max(rates)) == 10
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_constant_is_constant() -> None:
    assert {rate_at(step, 9, "constant") for step in range(9)} == {1.0}


def test_generators_depend_on_every_label_and_on_nothing_else() -> None:
    def draw(seed: int, *labels: str | int) -> float:
        return float(torch.rand(1, generator=generator_for(seed, *labels)))

    torch.manual_seed(1)
    first = draw(0, "order", 1)
    torch.manual_seed(2)
    assert draw(0, "order", 1) == first
    assert len({first, draw(1, "order", 1), draw(0, "order", 2), draw(0, "augment", 1)}) == 4


def test_warm_up_begins_above_zero_and_rises_by_equal_steps() -> None:
    assert [rate_at(step, 100, "cosine") for step in range(10)] == pytest.approx(
        [(1 + step) / 11 for step in range(10)]
    )
    assert rate_at(0, 1, "cosine") > 0  # else a run of one step learns nothing
