"""CIFAR-10 and CIFAR-100 through torchvision, which checks every file's md5 before it reads it."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError

LOADERS = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}


def load_cifar(name: str, root: Path, *, download: bool) -> Dataset:
    """Return CIFAR from ``root``, unpacking the archive that lies there, or downloading it.

    Raises ``UserError`` when it is not there and cannot be had, or is damaged.
    """
    loader = LOADERS[name]
    archive = root / loader.filename
    if archive.exists() and not check_integrity(str(archive), loader.tgz_md5):
        raise UserError(f"{archive} is damaged or half-downloaded (its md5 is not {loader.tgz_md5}); delete it and try again")
    offline = f"put {loader.filename} into {root}, name its folder with --data-dir, or use --dataset folder"
    try:
        splits = [_read(loader, root, train, download or archive.exists()) for train in (True, False)]
    except (URLError, ConnectionError, TimeoutError):
        raise UserError(f"{name} is not in {root} and could not be downloaded (no network?); {offline}") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{name} is not in {root} ({_first_line(error)}); {offline}") from None
    return Dataset(name, splits[0], splits[1], flip=True)


def _read(loader: type[datasets.CIFAR10], root: Path, train: bool, fetch: bool) -> ImageSet:
    split = loader(str(root), train=train, download=fetch)
    images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(split.targets), tuple(split.classes), str(root))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
