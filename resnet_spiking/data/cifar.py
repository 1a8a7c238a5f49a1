"""CIFAR-10 and CIFAR-100 through torchvision, which checks every file's md5 before it reads it."""

from __future__ import annotations

from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError

LOADERS = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}


def load_cifar(name: str, root: Path, *, download: bool) -> Dataset:
    """Return CIFAR from ``root``, ``uint8 [N, 3, 32, 32]``: unpacked already, as an archive, or downloaded to it.

    Raises ``UserError`` when it is not there and cannot be had, or is damaged.
    """
    loader = LOADERS[name]
    offline = f"put {loader.filename} into {root}, name its folder with --data-dir, or use --dataset folder"
    # Not unpacked yet, or only in part: then the archive decides.
    with suppress(RuntimeError, OSError):
        return _read(name, root, unpack=False)
    archive = root / loader.filename
    # torchvision would silently replace such an archive by a download, and without a network blame the network.
    if archive.exists() and not check_integrity(str(archive), loader.tgz_md5):
        raise UserError(f"{archive} is damaged or half-downloaded (wrong md5); delete it and try again, or {offline}")
    if not archive.exists() and not download:
        raise UserError(f"{name} is missing from {root}, or damaged there; {offline}")
    try:
        return _read(name, root, unpack=True)
    except (URLError, ConnectionError, TimeoutError, HTTPException):
        raise UserError(f"{name} is not in {root} and could not be downloaded (no network?); {offline}") from None
    except (RuntimeError, OSError) as error:
        raise UserError(f"{name} could not be unpacked in {root} ({_first_line(error)}); {offline}") from None


def _read(name: str, root: Path, *, unpack: bool) -> Dataset:
    """Read both splits; ``unpack`` lets torchvision fetch the archive (if it is not there) and unpack it."""
    splits = []
    for train in (True, False):
        split = LOADERS[name](str(root), train=train, download=unpack)
        images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
        splits.append(ImageSet(images, torch.tensor(split.targets), tuple(split.classes), str(root)))
    return Dataset(name, splits[0], splits[1], flip=True)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
