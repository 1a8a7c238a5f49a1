"""Fashion-MNIST from four idx files: Debian's package, torchvision's folder, or a download."""

from __future__ import annotations

import gzip
import math
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torchvision import datasets

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
OFFLINE = "install Debian's package dataset-fashion-mnist, or name the folder of the four .gz files with --data-dir"


def load_fashion_mnist(data_dir: Path | None, default_dir: Path, *, download: bool) -> Dataset:
    """Return Fashion-MNIST, ``uint8 [N, 1, 28, 28]``.

    Looks in ``data_dir`` (the four ``.gz`` files, or torchvision's ``FashionMNIST/raw``), without
    one in the folder of Debian's package ``dataset-fashion-mnist`` and then in ``default_dir``,
    to which it downloads. Raises ``UserError`` when files are missing or damaged.
    """
    places = [data_dir] if data_dir else [DEBIAN, default_dir]
    folder = next((found for place in places if (found := _find(place))), None)
    if folder is None:
        folder = _download(data_dir or default_dir, allowed=download)
    return Dataset("fashion-mnist", _read_split(folder, *TRAIN), _read_split(folder, *TEST), flip=True)


def _find(place: Path) -> Path | None:
    """Return the folder in ``place`` that holds all four files; a download killed between two is none."""
    for folder in (place, place / "FashionMNIST" / "raw"):
        if all((folder / name).exists() for name in TRAIN + TEST):
            return folder
    return None


def _download(root: Path, *, allowed: bool) -> Path:
    if not allowed:
        raise UserError(f"Fashion-MNIST's four files are not all in {root}; {OFFLINE}")
    try:
        datasets.FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError, ValueError, AssertionError, HTTPException) as error:
        reason = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise UserError(f"Fashion-MNIST is not in {root} and could not be downloaded ({reason}); {OFFLINE}") from None
    return root / "FashionMNIST" / "raw"


def _read_split(folder: Path, images_name: str, labels_name: str) -> ImageSet:
    classes = tuple(datasets.FashionMNIST.classes)
    images = _read_idx(folder / images_name, dimensions=3)
    labels = _read_idx(folder / labels_name, dimensions=1)
    if images.shape != (len(labels), 28, 28) or not len(labels) or labels.max() >= len(classes):
        raise UserError(
            f"{folder} does not hold Fashion-MNIST: {images_name} is {list(images.shape)}, {labels_name} has "
            f"{len(labels)} labels, expected [N, 28, 28] and N labels below {len(classes)}"
        )
    return ImageSet(torch.from_numpy(images)[:, None].clone(), torch.from_numpy(labels).long(), classes, str(folder))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an idx file of unsigned bytes: magic ``00 00 08 d``, d big-endian sizes, the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is missing or damaged ({error}); delete it and fetch it again") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise UserError(f"{path} is not an idx file of unsigned bytes in {dimensions} dimensions; fetch it again")
    shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
    if len(content) != header + math.prod(shape):
        raise UserError(f"{path} is truncated: {len(content)} bytes for a shape of {shape}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
