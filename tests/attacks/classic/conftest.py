from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from resnet_spiking.attacks.target import Target, attackable, make_target
from resnet_spiking.data.digits import load_digits


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """24 digits ``[24, 1, 8, 8]`` in [0, 1] with labels."""
    test = load_digits().test
    return test.images[:24].float() / 255, test.labels[:24]


@pytest.fixture(scope="session")
def smooth() -> nn.Module:
    """A perceptron with one hidden layer, trained on the digits: no gradient is masked."""
    train = load_digits().train
    pixels, labels = train.images.float() / 255, train.labels
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture
def target(smooth: nn.Module, digits: tuple[Tensor, Tensor]) -> Iterator[Target]:
    with attackable(smooth):
        yield make_target(smooth, digits[0])
