"""One picture of a file: upright, in eight bits of red, green and blue."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from resnet_spiking.errors import UserError

# What Pillow raises for damaged files, by format; a bomb is a picture too large to be unpacked safely.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of the upright picture, from the file's header.

    Raises ``UserError`` for a file that is no readable image.
    """
    with _opened(path) as file:
        width, height = file.size
        return (height, width) if _orientation(file) in ON_ITS_SIDE else (width, height)


def read_picture(path: Path, square: int | None) -> np.ndarray:
    """Return ``uint8 [H, W, 3]``, or ``[square, square, 3]`` from the middle of the picture.

    Grey pictures of 16 bits are scaled to 8.

    Raises ``UserError`` for a file that is no readable image, or whose values have no known range.
    """
    with _opened(path) as file:
        upright = file if _orientation(file) in (None, 1) else ImageOps.exif_transpose(file)
        image = _eight_bits(upright, file.format, path).convert("RGB")
    if square is None:
        return np.asarray(image)
    scale = square / min(image.size)
    size = (max(square, round(image.width * scale)), max(square, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    return np.asarray(image.crop((left, top, left + square, top + square)))


def _orientation(file: Image.Image) -> int | None:
    return file.getexif().get(ExifTags.Base.Orientation)


def _eight_bits(image: Image.Image, kind: str | None, path: Path) -> Image.Image:
    """Return the picture with values up to 255, which Pillow's conversion cuts off and does not scale."""
    # PNG and PGM have no more than 16 bits; Pillow calls both I here and there.
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path} has values of 32 bits, whose range is not known; convert it to 8 or 16 bits per channel"
        )
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable image ({error}); replace or delete it") from None
