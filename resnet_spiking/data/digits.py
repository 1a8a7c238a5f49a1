"""scikit-learn's scanned digits: the default that needs no download."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits as read_digits
from sklearn.model_selection import train_test_split

from resnet_spiking.data.images import Dataset, ImageSet

TEST_IMAGES = 360


def load_digits() -> Dataset:
    """Return the 1,797 digits of scikit-learn, ``uint8 [N, 1, 8, 8]``: 17 grey levels scaled to 0..255.

    The split (1,437 train, 360 test) is drawn once, stratified by class, and never changes.
    A mirrored digit is another sign, so there is no flip.
    """
    bunch = read_digits()
    images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    classes = tuple(str(digit) for digit in range(10))
    train, test = (
        ImageSet(images[chosen].clone(), labels[chosen].clone(), classes, "digits")
        for chosen in train_test_split(range(len(labels)), test_size=TEST_IMAGES, stratify=bunch.target, random_state=0)
    )
    return Dataset("digits", train, test, flip=False)
