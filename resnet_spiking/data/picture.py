"""One picture of a file: upright, in eight bits of red, green and blue."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from resnet_spiking.errors import UserError

# What Pillow raises for damaged files, by format; a bomb is a picture too large to be unpacked safely.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
TIFF_WIDTH, TIFF_LENGTH = 256, 257
LONGEST = 8
"""Times its shorter side that are left of a picture which is to be resized."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of the upright picture, from the file's header.

    Raises ``UserError`` for a file that is no readable image.
    """
    with _opened(path) as file:
        width, height = file.size
        if isinstance(file, TiffImageFile):
            # Newer versions of Pillow name the upright size, others that of the file.
            width, height = file.tag_v2[TIFF_WIDTH], file.tag_v2[TIFF_LENGTH]
        return (height, width) if _orientation(file) in ON_ITS_SIDE else (width, height)


def read_picture(path: Path, square: int | None) -> np.ndarray:
    """Return ``uint8 [H, W, 3]``, or ``[square, square, 3]`` from the middle of the picture.

    Grey pictures of 16 bits are scaled to 8, transparent ones are laid on white. Of a picture that is much longer than
    wide, or wider than long, what is far from the middle is cut off before it is resized.

    Raises ``UserError`` for a file that is no readable image, or whose values have no known range.
    """
    with _opened(path) as file:
        # Pillow turns a TIFF as it loads it, and up to some version left the orientation in its description.
        as_loaded = isinstance(file, TiffImageFile) or _orientation(file) in (None, 1)
        upright = file if as_loaded else ImageOps.exif_transpose(file)
        image = _opaque(_eight_bits(upright, file.format, path)).convert("RGB")
    if square is None:
        return np.asarray(image)
    across = LONGEST * min(image.size)
    if max(image.size) > across:
        # At the size of its shorter side it would need memory for the whole of it.
        left, top = max(0, image.width - across) // 2, max(0, image.height - across) // 2
        image = image.crop((left, top, image.width - left, image.height - top))
    scale = square / min(image.size)
    size = (max(square, round(image.width * scale)), max(square, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    return np.asarray(image.crop((left, top, left + square, top + square)))


def _opaque(image: Image.Image) -> Image.Image:
    """Return the picture on white where it is transparent: what lies below transparency is often one colour."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


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
        # By its name Pillow 13.0 would map an uncompressed TIFF into memory, and a turned one with its sides exchanged.
        with path.open("rb") as handle, Image.open(handle) as file:
            yield file
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable image ({error}); replace or delete it") from None
