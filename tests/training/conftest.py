from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from resnet_spiking.data.images import Dataset
from resnet_spiking.training import verify
from resnet_spiking.training.run import train_run

sys.path.insert(0, str(Path(__file__).parent))  # for run_cases

from run_cases import CONFIG, stored


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, fixed_shapes: Dataset) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    train_run(CONFIG, folder / "run", data=stored(fixed_shapes))
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run that a test may spoil."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.setattr(verify, "load_data", lambda config, data_dir: shapes)
    return tmp_path / "copy" / "run"
