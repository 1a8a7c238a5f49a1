from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resnet_spiking.config import RunConfig
from resnet_spiking.data.images import Dataset
from resnet_spiking.errors import UserError
from resnet_spiking.training.run import train_run

CONFIG = RunConfig(
    dataset="folder", weights="none", image_size=32, hidden=(24,), num_steps=5, default_epochs=1, spiking_epochs=1,
    batch_size=24, lr=2e-3, head_lr=5e-3, neuron="lif", precision="fp32",
)  # fmt: skip


def hashes(config: RunConfig, folder: Path, shapes: Dataset) -> str:
    return str(train_run(config, folder, data=shapes)["hashes"]["model"])


def moved(run: Path, default: Path) -> float:
    """Return the largest step of a weight of the stages, BatchNorm's statistics aside, from Default to the branch."""
    before, after = load_file(default / "model.safetensors"), load_file(run / "model.safetensors")
    names = [name for name in before if name.startswith("stages.") and "running" not in name and "num" not in name]
    assert len(names) > 10
    return max(float((after[name].float() - before[name].float()).abs().max()) for name in names)


def test_the_stages_learn_at_the_rate_of_the_branch_and_default_at_its_own(tmp_path: Path, shapes: Dataset) -> None:
    slow = 1e-6
    alike = hashes(CONFIG, tmp_path / "usual", shapes)
    assert hashes(replace(CONFIG, branch_lr=CONFIG.lr), tmp_path / "given", shapes) == alike
    assert hashes(replace(CONFIG, branch_lr=slow), tmp_path / "slow", shapes) != alike
    (default,) = tmp_path.glob("default-*")
    # AdamW's first steps move a weight by at most about the rate.
    steps = len(shapes.train) // CONFIG.batch_size
    assert 0 < moved(tmp_path / "slow", default) < 3 * slow * steps
    assert moved(tmp_path / "usual", default) > 100 * slow * steps


def test_the_head_keeps_its_own_rate(tmp_path: Path, shapes: Dataset) -> None:
    still = torch.finfo(torch.float32).tiny
    hashes(replace(CONFIG, branch_lr=still, spiking_epochs=0), tmp_path / "begun", shapes)
    hashes(replace(CONFIG, branch_lr=still), tmp_path / "trained", shapes)
    before, after = (load_file(tmp_path / run / "model.safetensors") for run in ("begun", "trained"))
    heads = [name for name in before if name.startswith("head.") and name.endswith("weight")]
    assert heads
    assert all(not torch.equal(before[name], after[name]) for name in heads)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="--branch-lr must be a positive number"):
        RunConfig(branch_lr=rate)


def test_a_rate_of_frozen_stages_is_refused() -> None:
    with pytest.raises(UserError, match=r"--branch-lr cannot go with --train head.*use --train decoder"):
        RunConfig(branch_lr=0.1, train="head")
