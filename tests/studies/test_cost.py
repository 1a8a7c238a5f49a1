from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from resnet_spiking.studies import cost
from resnet_spiking.studies.cost import estimate
from resnet_spiking.studies.plan import plan_study
from resnet_spiking.studies.study_file import parse_study


def clock(monkeypatch: pytest.MonkeyPatch, fixed: float, each: float) -> list[int]:
    """Let a step take ``fixed`` seconds and ``each`` for every image; return the sizes that were timed."""
    sizes: list[int] = []

    def seconds(step: object, given: Tensor) -> float:
        sizes.append(len(given))
        return fixed + each * len(given)

    monkeypatch.setattr(cost, "_seconds", seconds)
    return sizes


@pytest.mark.parametrize("batch", [16, 24, 32, 128, 1000])
@pytest.mark.parametrize(("fixed", "each"), [(0.0, 0.001), (0.2, 0.001), (0.6, 0.01), (0.0, 0.1), (2.0, 0.0)])
def test_what_a_step_costs_by_itself_is_shared_by_its_images(
    monkeypatch: pytest.MonkeyPatch, fixed: float, each: float, batch: int
) -> None:
    sizes = clock(monkeypatch, fixed, each)
    found = cost._time(lambda features: None, torch.zeros(16, 3, 4, 4), batch)
    assert found == pytest.approx((fixed + each * batch) / batch)
    slow = fixed + 16 * each > cost.QUICK
    assert max(sizes) <= (32 if slow else max(batch, 16))


@pytest.mark.parametrize("train", ["head", "decoder"])
def test_without_a_cache_every_epoch_pays_for_what_is_frozen(train: str) -> None:
    grid = {"image_size": [32], "epochs": "3,2", "train": train, "neuron": "relu", "train_samples": 40}
    grid = {**grid, "test_samples": 10, "precision": "fp32"}
    study = {"name": "x", "datasets": {"digits": {"image_size": 32}}, "grid": [grid]}
    del grid["image_size"]
    tasks = plan_study(parse_study(study, "x"), cached=False)
    kept, live = (estimate(tasks, threads=1, device=torch.device("cpu"), cached=cached) for cached in (True, False))
    config = next(task.run.config for task in tasks if task.run and task.run.is_default)
    measured = cost._measure(cost._trunk_only(replace(config, weights="none")), torch.device("cpu"))
    frozen = measured.train_features * 40 + measured.test_features * 10
    stages = measured.default_test * (40 + 10) if train == "head" else 0
    for task in tasks:
        epochs, more = (3, frozen) if task.run and task.run.is_default else (2, frozen + stages)
        assert live[task.key].seconds - kept[task.key].seconds == pytest.approx(epochs * more)


def test_a_larger_step_that_happens_to_be_quicker_is_no_gain_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([1.0, 0.9])
    monkeypatch.setattr(cost, "_seconds", lambda step, given: next(taken))
    assert cost._time(lambda features: None, torch.zeros(16, 8), 90) == pytest.approx(0.01)
