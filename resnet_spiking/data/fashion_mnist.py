"""Fashion-MNIST from four idx files: Debian's package, torchvision's folder, or a download."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torchvision import datasets

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}


def load_fashion_mnist(data_dir: Path | None, default_dir: Path, *, download: bool) -> Dataset:
    """Return Fashion-MNIST, ``uint8 [N, 1, 28, 28]``.

    Looks in ``data_dir`` (the four ``.gz`` files, or torchvision's ``FashionMNIST/raw``), without
    one in the folder of Debian's package ``dataset-fashion-mnist`` and then in ``default_dir``,
    to which it downloads. Raises ``UserError`` when files are missing or damaged.
    """
    places = [data_dir] if data_dir else [DEBIAN, default_dir]
    folder = next((found for place in places if (found := _find(place))), None)
    if folder is None:
        root = data_dir or default_dir
        offline = "install Debian's package dataset-fashion-mnist, or name the folder of the four .gz files with --data-dir"
        if not download:
            raise UserError(f"Fashion-MNIST is not in {root}; {offline}")
        try:
            datasets.FashionMNIST(str(root), download=True)
        except (URLError, RuntimeError, OSError) as error:
            raise UserError(f"Fashion-MNIST is not in {root} and could not be downloaded ({error}); {offline}") from None
        folder = root / "FashionMNIST" / "raw"
    classes = tuple(datasets.FashionMNIST.classes)
    return Dataset("fashion-mnist", *(_split(folder, *FILES[split], classes) for split in ("train", "test")), flip=True)


def _find(place: Path) -> Path | None:
    for folder in (place, place / "FashionMNIST" / "raw"):
        if (folder / f"{FILES['train'][0]}.gz").exists():
            return folder
    return None


def _split(folder: Path, images_name: str, labels_name: str, classes: tuple[str, ...]) -> ImageSet:
    images = _read_idx(folder / f"{images_name}.gz", dimensions=3)
    labels = _read_idx(folder / f"{labels_name}.gz", dimensions=1)
    if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max() >= len(classes):
        raise UserError(f"{folder} does not hold Fashion-MNIST: {images.shape} images, {len(labels)} labels up to {labels.max()}")
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
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    if len(content) != header + int(np.prod(shape)):
        raise UserError(f"{path} is truncated: {len(content)} bytes for a shape of {shape.tolist()}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
