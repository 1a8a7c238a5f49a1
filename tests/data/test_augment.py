from __future__ import annotations

import torch

from resnet_spiking.data.augment import flip_randomly


def test_random_flips_are_left_to_right() -> None:
    pixels = torch.rand(64, 3, 5, 7)
    found = flip_randomly(pixels, torch.Generator().manual_seed(0))
    kept = (found == pixels).flatten(1).all(1)
    mirrored = (found == pixels.flip(-1)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 16 < kept.sum() < 48
