from __future__ import annotations

import pytest
import torch

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError


def images(count: int) -> ImageSet:
    return ImageSet(torch.zeros(count, 3, 4, 4, dtype=torch.uint8), torch.arange(count) % 2, ("a", "b"))


@pytest.mark.parametrize(("train", "test", "which"), [(0, 2, "train"), (2, 0, "test")])
def test_an_empty_split_is_refused(train: int, test: int, which: str) -> None:
    with pytest.raises(UserError, match=f"{which} of mine holds no images; give at least one"):
        Dataset("mine", images(train), images(test), flip=False)
