from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from resnet_spiking.data.images import Dataset, ImageSet

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Keep figures independent of the number of cores, and small tests quick."""
    torch.set_num_threads(1)


@pytest.fixture
def shapes() -> Dataset:
    """A fresh copy of ``fixed_shapes`` that a test may change."""
    return make_shapes()


@pytest.fixture(scope="session")
def fixed_shapes() -> Dataset:
    return make_shapes()


def make_shapes() -> Dataset:
    """Three easy classes of 16x16 pictures: a bright horizontal, vertical or diagonal bar in noise."""
    generator = torch.Generator().manual_seed(5)

    def split(count: int) -> ImageSet:
        images = torch.randint(0, 90, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        labels = torch.arange(count) % 3
        for index, label in enumerate(labels.tolist()):
            place = int(torch.randint(4, 12, (1,), generator=generator))
            if label == 0:
                images[index, :, place] = 255
            elif label == 1:
                images[index, :, :, place] = 255
            else:
                images[index, :, torch.arange(16), torch.arange(16)] = 255
        return ImageSet(images, labels, ("horizontal", "vertical", "diagonal"))

    return Dataset("folder", split(96), split(48), flip=True)
