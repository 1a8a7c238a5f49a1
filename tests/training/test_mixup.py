"""Mixed features: each with a partner of its batch, the loss shared out as the features are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import PLAIN
from resnet_spiking.network.head import LinearHead
from resnet_spiking.training.loop import train_step
from resnet_spiking.training.optimizer import make_optimizer

BATCH = 10


class Seeing(LinearHead):
    """Keeps the features that it was given."""

    def trace(self, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        self.seen = features
        return super().trace(features, generator)


@pytest.mark.parametrize("step", range(6))
def test_features_and_losses_are_mixed_alike(shapes: Dataset, step: int) -> None:
    torch.manual_seed(0)
    own = torch.eye(BATCH)  # column i of a mixture is image i's share of it
    source = FeatureSource(shapes.train, PLAIN, torch.device("cpu"), lambda indices, chosen: own[indices])
    head = Seeing(BATCH, 3)
    before = [parameter.detach().clone() for parameter in head.parameters()]
    config = RunConfig(mixup=0.4, label_smoothing=0.1, optimizer="sgd", lr=0.1)
    labels = shapes.train.labels
    loss, correct, _ = train_step(
        head, source, labels, torch.arange(BATCH), config, ("test", 0, step), make_optimizer(head, config)
    )
    mixed = head.seen
    torch.testing.assert_close(mixed.sum(1), torch.ones(BATCH))
    torch.testing.assert_close(mixed.sum(0), torch.ones(BATCH))  # every image is one other's partner
    assert all(len(row.unique()) <= 3 for row in mixed)
    weight, bias = before
    logits = mixed @ weight.t() + bias
    losses = torch.stack(
        [functional.cross_entropy(logits, labels[i].expand(BATCH), label_smoothing=0.1, reduction="none")
         for i in range(BATCH)], 1
    )  # fmt: skip
    torch.testing.assert_close(loss, (mixed * losses).sum(1).mean())
    largest = mixed.argmax(1)
    assert correct == int((logits.argmax(1) == labels[largest]).sum())


def test_every_step_mixes_by_a_share_of_its_own(shapes: Dataset) -> None:
    torch.manual_seed(0)
    source = FeatureSource(shapes.train, PLAIN, torch.device("cpu"), lambda indices, chosen: torch.eye(BATCH)[indices])
    config = RunConfig(mixup=1.0, optimizer="sgd")
    shares = set()
    for step in range(8):
        head = Seeing(BATCH, 3)
        train_step(
            head, source, shapes.train.labels, torch.arange(BATCH), config, ("test", 0, step),
            make_optimizer(head, config),
        )  # fmt: skip
        shares.add(round(float(head.seen.amax(1).min()), 6))  # an image that is its own partner has a share of 1
    assert len(shares) == 8
    assert min(shares) < 0.7 < 0.8 < max(shares)
