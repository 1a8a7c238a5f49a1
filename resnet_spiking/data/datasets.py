"""Datasets by name."""

from __future__ import annotations

from pathlib import Path

from resnet_spiking.cache_home import cache_home
from resnet_spiking.data.cifar import load_cifar
from resnet_spiking.data.digits import load_digits
from resnet_spiking.data.fashion_mnist import load_fashion_mnist
from resnet_spiking.data.folder import TREE, load_folder
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.names import DATASETS
from resnet_spiking.data.watch import Watch, silent
from resnet_spiking.errors import UserError, check_known


def load_dataset(
    name: str, data_dir: Path | None = None, *, download: bool = True, side: int = 224, watch: Watch = silent
) -> Dataset:
    """Return a dataset held in memory.

    ``data_dir`` is where it lies or is downloaded to; ``side`` is the size that image folders
    with pictures of several sizes are brought to; ``watch(label, done, total)`` is told how far they are read.

    Raises ``UserError`` for an unknown name, and for data that is missing or damaged.
    """
    check_known("--dataset", name, DATASETS)
    if name == "digits":
        return load_digits()
    if name in ("cifar10", "cifar100"):
        return load_cifar(name, data_dir or default_dir(), download=download)
    if name == "fashion-mnist":
        return load_fashion_mnist(data_dir, data_dir or default_dir(), download=download)
    if data_dir is None:
        raise UserError(f"--dataset folder needs --data-dir; {TREE}")
    return load_folder(data_dir, side=side, watch=watch)


def default_dir() -> Path:
    """Return where downloads go: below the user's cache folder."""
    return cache_home() / "data"
