from __future__ import annotations

import torch
from torch import Tensor, nn

from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.data.views import PLAIN
from resnet_spiking.training.scoring import BATCH, score

CPU = torch.device("cpu")


def test_every_block_of_a_test_set_is_scored_on_draws_of_its_own(shapes: Dataset) -> None:
    images = ImageSet(
        shapes.train.images[:1].expand(2 * BATCH, -1, -1, -1), torch.zeros(2 * BATCH, dtype=torch.long), ("a", "b")
    )
    source = FeatureSource(images, PLAIN, CPU, lambda indices, chosen: torch.zeros(len(indices), 2))
    drawn = []

    class Coin(nn.Module):
        def trace(self, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
            drawn.append(torch.rand(len(features), 2, generator=generator))
            return drawn[-1], []

    score(Coin(), source, 0)
    assert len(drawn) == 2
    assert not torch.equal(*drawn)
