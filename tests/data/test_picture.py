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


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
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
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert picture_size(path) == (6, 4)
    np.testing.assert_array_equal(read_picture(path, None)[:, :, 0], shown)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, kind: str) -> None:
    """A black drawing whose every pixel is black: the drawing is in its opacity."""
    opacity = np.zeros((4, 6), np.uint8)
    opacity[1:3, 2:4] = 255
    opacity[0, 0] = 51
    black = np.zeros_like(opacity)
    path = tmp_path / "x.png"
    if kind == "palette":
        drawing = Image.fromarray((opacity == 255).astype(np.uint8), "P")
        drawing.putpalette([0, 0, 0, 0, 0, 0])
        drawing.save(path, transparency=0)
    else:
        Image.fromarray(np.stack([*[black] * (len(kind) - 1), opacity], 2), kind).save(path)
    expected = 255 - (np.where(opacity == 255, opacity, 0) if kind == "palette" else opacity)
    np.testing.assert_array_equal(read_picture(path, None), expected[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("shape", [(3, 90), (90, 3)])
def test_of_a_long_picture_the_middle_is_resized_alone(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    resize = Image.Image.resize

    def noted(image: Image.Image, size: tuple[int, int], *more: object) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    values = np.linspace(0, 255, 90).round().astype(np.uint8)
    picture = np.broadcast_to(values if shape[1] == 90 else values[:, None], shape)
    Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / "x.png")
    found = read_picture(tmp_path / "x.png", 30)[:, :, 0]
    along = found[0] if shape[1] == 90 else found[:, 0]
    assert max(sizes[0]) == 8 * 30
    # The middle three pixels, from 43.5 to 46.5, with what a bilinear filter takes from beside them.
    np.testing.assert_allclose(along, np.interp(np.linspace(43.55, 46.45, 30) - 0.5, np.arange(90), values), atol=1.5)
