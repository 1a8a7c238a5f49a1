"""Pictures of every kind show the same grey ramp, and lie as a viewer shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_spiking.data.picture import picture_size, read_picture
from resnet_spiking.errors import UserError

RAMP = np.linspace(0, 255, 40).round().astype(np.uint8)[None].repeat(6, 0)


def _written(path: Path, kind: str) -> Path:
    grey = Image.fromarray(RAMP)
    if kind == "16 bit":
        Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    elif kind == "16 bit pgm":
        path.write_bytes(b"P5 40 6 65535\n" + (RAMP.astype(">u2") * 257).tobytes())
    elif kind == "32 bit":
        Image.fromarray(RAMP.astype(np.int32) * 1000).save(path)
    elif kind == "float":
        Image.fromarray(RAMP.astype(np.float32) / 255).save(path)
    elif kind == "palette":
        grey.convert("P").save(path)
    else:
        grey.convert(kind).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.png", "L"),
        ("x.png", "RGB"),
        ("x.png", "RGBA"),
        ("x.png", "LA"),
        ("x.png", "palette"),
        ("x.png", "16 bit"),
        ("x.tif", "16 bit"),
        ("x.pgm", "16 bit pgm"),
        ("x.tif", "CMYK"),
    ],
)
def test_every_kind_gives_the_same_values(tmp_path: Path, name: str, kind: str) -> None:
    path = _written(tmp_path / name, kind)
    assert picture_size(path) == (40, 6)
    found = read_picture(path, None)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RAMP[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("kind", ["32 bit", "float"])
def test_values_without_a_known_range_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"x\.tif has values of 32 bits.*convert it to 8 or 16 bits"):
        read_picture(_written(tmp_path / "x.tif", kind), None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright(tmp_path: Path, orientation: int) -> None:
    """Against the table of the EXIF standard: which corner row 0 and column 0 of the file stand for."""
    shown = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: shown.T[::-1],
        7: shown.T[::-1, ::-1],
        8: shown.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    assert picture_size(tmp_path / "x.png") == (6, 4)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png", None)[:, :, 0], shown)
