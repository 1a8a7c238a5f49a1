"""Image folders: ``train/<class>/…`` and ``test/<class>/…``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TREE = "expected train/<class>/<image> and test/<class>/<image>"


def load_folder(root: Path, *, side: int) -> Dataset:
    """Read an image folder into memory.

    Images of one common size keep it. Otherwise each is resized so that its shorter side has
    ``side`` pixels and centre-cropped to a square.

    Raises ``UserError`` for a missing or empty folder, an unreadable image, or splits whose
    classes differ.
    """
    if not root.is_dir():
        raise UserError(f"--data-dir {root} is not a folder; {TREE}")
    train, test = (_read_split(root / split, side) for split in ("train", "test"))
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        raise UserError(f"train and test in {root} must have the same classes; not in both: {', '.join(different)}")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"images in {root} differ between train {tuple(train.images.shape[1:])} and "
            f"test {tuple(test.images.shape[1:])}; give both splits images of one size"
        )
    return Dataset("folder", train, test, flip=True)


def _read_split(folder: Path, side: int) -> ImageSet:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; {TREE}")
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    counts = np.bincount([label for _, label in files], minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not files or empty:
        raise UserError(f"{folder} holds no images{f' for {empty[0]}' if empty else ''}; {TREE}")
    with ThreadPoolExecutor(max_workers=2) as pool:
        arrays = list(pool.map(lambda item: _read_image(item[0]), files))
    if len({array.shape for array in arrays}) > 1:
        arrays = [_square(array, side) for array in arrays]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor([label for _, label in files]), classes, str(folder))


def _read_image(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path} is not a readable image ({error}); replace or delete it") from None


def _square(array: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(array)
    scale = side / min(image.size)
    image = image.resize((max(side, round(image.width * scale)), max(side, round(image.height * scale))), Image.Resampling.BILINEAR)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
