"""Image folders: ``train/<class>/…`` and ``test/<class>/…``."""

from __future__ import annotations

import struct
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TREE = "expected train/<class>/<image> and test/<class>/<image>"

# What Pillow raises for damaged files, by format; a bomb is a picture too large to be unpacked safely.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def load_folder(root: Path, *, side: int) -> Dataset:
    """Read an image folder into memory, ``uint8 [N, 3, H, W]``; hidden files and folders are skipped.

    Images of one common size keep it. Otherwise each is resized so that its shorter side has
    ``side`` pixels and centre-cropped to a square.

    Raises ``UserError`` for a missing or empty folder, an unreadable image, a single class, or splits whose classes
    differ.
    """
    if not root.is_dir():
        raise UserError(f"--data-dir {root} is not a folder; {TREE}")
    train, test = (_list_images(root / split) for split in ("train", "test"))
    if tuple(train) != tuple(test):
        different = sorted(set(train) ^ set(test))
        raise UserError(f"train and test in {root} must have the same classes; not in both: {', '.join(different)}")
    if len(train) < 2:
        raise UserError(f"{root} holds one class alone, {next(iter(train))}; give at least two to tell apart; {TREE}")
    paths = [path for split in (train, test) for members in split.values() for path in members]
    with ThreadPoolExecutor(max_workers=2) as pool:
        # Decided for both splits at once, as they must end up with one size, and from the headers
        # alone, so that large pictures are made smaller one by one and never lie in memory together.
        square = side if len(set(pool.map(_read_size, paths))) > 1 else None
        return Dataset("folder", _read_split(train, square, pool), _read_split(test, square, pool), flip=True)


def _list_images(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class, classes and files in alphabetical order."""
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; {TREE}")
    images = {
        entry.name: [path for path in _visible(entry) if path.suffix.lower() in SUFFIXES]
        for entry in _visible(folder)
        if entry.is_dir()
    }
    empty = [name for name, members in images.items() if not members]
    if not images or empty:
        of = f" for {empty[0]}" if empty else ""
        raise UserError(f"{folder} holds no images{of} ({', '.join(SUFFIXES)}); {TREE}")
    return images


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_split(images: dict[str, list[Path]], square: int | None, pool: Executor) -> ImageSet:
    paths = [path for members in images.values() for path in members]
    labels = [label for label, members in enumerate(images.values()) for _ in members]
    arrays = list(pool.map(partial(_read_image, square=square), paths))
    stacked = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(stacked, torch.tensor(labels), tuple(images), str(paths[0].parent.parent))


def _read_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable image ({error}); replace or delete it") from None


def _read_image(path: Path, square: int | None) -> np.ndarray:
    """Return ``uint8 [H, W, 3]``, or ``[square, square, 3]`` from the middle of the picture."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable image ({error}); replace or delete it") from None
    if square is None:
        return np.asarray(image)
    scale = square / min(image.size)
    size = (max(square, round(image.width * scale)), max(square, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    return np.asarray(image.crop((left, top, left + square, top + square)))
