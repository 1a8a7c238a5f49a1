from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resnet_spiking.studies import calibration


def clock(monkeypatch: pytest.MonkeyPatch, fixed: float, each: float) -> list[int]:
    """Let a step take ``fixed`` seconds and ``each`` for every image; return the sizes that were timed."""
    sizes: list[int] = []

    def seconds(step: object, given: Tensor) -> float:
        sizes.append(len(given))
        return fixed + each * len(given)

    monkeypatch.setattr(calibration, "_seconds", seconds)
    return sizes


@pytest.mark.parametrize("batch", [16, 24, 32, 128, 1000])
@pytest.mark.parametrize(("fixed", "each"), [(0.0, 0.001), (0.2, 0.001), (0.6, 0.01), (0.0, 0.1), (2.0, 0.0)])
def test_what_a_step_costs_by_itself_is_shared_by_its_images(
    monkeypatch: pytest.MonkeyPatch, fixed: float, each: float, batch: int
) -> None:
    sizes = clock(monkeypatch, fixed, each)
    found = calibration._time(lambda features: None, torch.zeros(16, 3, 4, 4), batch)
    assert found == pytest.approx((fixed + each * batch) / batch)
    slow = fixed + 16 * each > calibration.QUICK
    assert max(sizes) <= (32 if slow else max(batch, 16))


def test_a_larger_step_that_happens_to_be_quicker_is_no_gain_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([1.0, 0.9])
    monkeypatch.setattr(calibration, "_seconds", lambda step, given: next(taken))
    assert calibration._time(lambda features: None, torch.zeros(16, 8), 90) == pytest.approx(0.01)
