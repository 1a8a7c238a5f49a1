from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resnet_spiking.data.images import Dataset

sys.path.insert(0, str(Path(__file__).parent))  # for attack_cases


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="session")
def trained(fixed_shapes: Dataset) -> nn.Sequential:
    """A small smooth network that tells the bars apart, in eval mode, its parameters without gradient."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.BatchNorm2d(8),
            nn.GELU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(16 * 16, 3),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        images, labels = fixed_shapes.train.images.float() / 255, fixed_shapes.train.labels
        for _ in range(40):
            noisy = (images + 0.05 * torch.randn_like(images)).clamp(0, 1)
            loss = nn.functional.cross_entropy(model(noisy), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def bars(fixed_shapes: Dataset) -> tuple[Tensor, Tensor]:
    """Test images ``[48, 3, 16, 16]`` in [0, 1] and their labels."""
    return fixed_shapes.test.images.float() / 255, fixed_shapes.test.labels
