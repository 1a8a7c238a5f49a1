from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import PLAIN
from resnet_spiking.network.head import LinearHead
from resnet_spiking.training.loop import Hooks, fit, train_step
from resnet_spiking.training.optimizer import make_optimizer

CPU = torch.device("cpu")


def test_a_hit_on_a_mixed_image_is_the_class_of_its_larger_share(shapes: Dataset) -> None:
    """The head returns each class's share of the mixture: always right, whichever of the two has more."""
    own, labels = torch.eye(12), shapes.train.labels
    source = FeatureSource(shapes.train, PLAIN, CPU, lambda indices, chosen: own[indices])
    for step in range(12):
        head = LinearHead(12, 3)
        head.output.weight.data = nn.functional.one_hot(labels[:12], 3).T.float()
        nn.init.zeros_(head.output.bias)
        config = RunConfig(mixup=0.4, optimizer="sgd", lr=0.1)
        _, correct, _ = train_step(
            head, source, labels, torch.arange(12), config, ("test", 0, step), make_optimizer(head, config)
        )
        assert correct == 12


class Watching(LinearHead):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.drawn: list[float] = []

    def trace(self, pooled: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        if self.training:
            self.drawn.append(float(torch.rand((), generator=generator)))
        return super().trace(pooled)


def fitted(
    shapes: Dataset, epochs: int, batch: int
) -> tuple[list[dict[str, Any]], list[Tensor], Watching, list[float]]:
    features = nn.functional.one_hot(shapes.train.labels, 3).float()
    seen: list[Tensor] = []

    def compute(indices: Tensor, chosen: Tensor) -> Tensor:
        seen.append(indices)
        return features[indices]

    source, head = FeatureSource(shapes.train, PLAIN, CPU, compute), Watching()
    with torch.no_grad():
        head.output.weight.copy_(20 * torch.eye(3))
        head.output.bias.zero_()
    config = RunConfig(optimizer="sgd", lr=1e-6, head_lr=1e-6, batch_size=batch)
    optimizer, rates = make_optimizer(head, config), []
    hooks = Hooks(on_step=lambda *_: rates.append(optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["peak"]))
    history = fit(head, source, config, phase="default", epochs=epochs, optimizer=optimizer, hooks=hooks)
    return history, seen, head, rates


def test_every_epoch_has_an_order_and_every_step_draws_of_its_own(shapes: Dataset) -> None:
    _, seen, head, _ = fitted(shapes, epochs=3, batch=24)
    orders = [torch.cat(seen[at : at + 4]).tolist() for at in (0, 4, 8)]
    assert all(sorted(order) == list(range(96)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert len(set(head.drawn)) == 12


def test_accuracy_in_training_is_of_the_images_that_were_seen(shapes: Dataset) -> None:
    history, seen, *_ = fitted(shapes, epochs=1, batch=36)
    assert sum(map(len, seen)) == 72
    assert history[0]["train_accuracy"] == 1


def test_the_rate_falls_over_all_epochs_once(shapes: Dataset) -> None:
    *_, rates = fitted(shapes, epochs=3, batch=24)
    rise = [1 / 2.2, 2 / 2.2]
    fall = [0.5 * (1 + math.cos(math.pi * (step - 1.2) / 10.8)) for step in range(2, 12)]
    assert rates == pytest.approx(rise + fall)
