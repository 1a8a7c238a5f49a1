from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from resnet_spiking.data import feature_cache
from resnet_spiking.data.feature_cache import FeatureSource, features_of, keep_features
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import Views
from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import split_resnet

CPU = torch.device("cpu")
MIRRORED = Views(flip=True)


class Frozen(nn.Module):
    """A stand-in whose features are known in closed form, and that counts the images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += len(pixels)
        return pixels[:, :, ::8, ::4] * 2 + 1


def keep(
    frozen: Frozen,
    shapes: Dataset,
    folder: Path | None,
    precision: str = "fp32",
    lines: list[str] | None = None,
    views: Views = MIRRORED,
) -> FeatureSource:
    live = features_of(frozen, shapes.train, views=views, precision=precision, device=CPU)
    report = (lines if lines is not None else []).append
    return keep_features(live, identity="a", cache_dir=folder, report=report, progress=lambda *_: None, label="train")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_cached_features_are_the_computed_ones(
    tmp_path: Path, shapes: Dataset, precision: str, dtype: torch.dtype
) -> None:
    cached = keep(Frozen(), shapes, tmp_path, precision)
    chosen, mirrored = torch.tensor([5, 0, 90]), torch.tensor([True, False, True])
    pixels = shapes.train.images[chosen].float() / 255
    pixels[mirrored] = pixels[mirrored].flip(-1)
    assert torch.equal(cached.batch(chosen, mirrored), (pixels[:, :, ::8, ::4] * 2 + 1).to(dtype))


def test_a_batch_taken_in_parts_has_the_features_of_the_whole(shapes: Dataset) -> None:
    frozen, _ = split_resnet("resnet18", 3, side=64)
    frozen = frozen.to(memory_format=torch.channels_last)
    chosen = torch.arange(feature_cache.CPU_PART + 9)
    taken = features_of(frozen, shapes.train).batch(chosen)
    with torch.no_grad():
        whole = frozen(shapes.train.pixels(chosen).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(taken, whole, rtol=1e-5, atol=1e-5)


def test_a_second_opening_computes_one_image_only(tmp_path: Path, shapes: Dataset) -> None:
    keep(Frozen(), shapes, tmp_path)
    frozen = Frozen()
    keep(frozen, shapes, tmp_path)
    assert frozen.seen == 1


def test_other_images_do_not_reuse_the_file(tmp_path: Path, shapes: Dataset) -> None:
    keep(Frozen(), shapes, tmp_path)
    shapes.train.images[0, 0, 0, 0] ^= 255
    changed = Dataset(
        "folder", type(shapes.train)(shapes.train.images, shapes.train.labels, shapes.classes), shapes.test, True
    )
    frozen = Frozen()
    keep(frozen, changed, tmp_path)
    assert frozen.seen > 1


def test_the_size_is_announced_before_writing(tmp_path: Path, shapes: Dataset) -> None:
    lines: list[str] = []
    keep(Frozen(), shapes, tmp_path, lines=lines)
    size = 2 * 96 * 3 * 2 * 4 * 4
    assert lines == [f"caching train features: {size / 1e6:.1f} MB in {tmp_path}"]


def test_a_kill_while_writing_leaves_no_file_and_the_next_run_works(tmp_path: Path, shapes: Dataset) -> None:
    class Killed(Frozen):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if self.seen > 50:
                raise KeyboardInterrupt
            return super().forward(pixels)

    with pytest.raises(KeyboardInterrupt):
        keep(Killed(), shapes, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert keep(Frozen(), shapes, tmp_path).stored is not None


def test_a_truncated_file_is_written_again(tmp_path: Path, shapes: Dataset) -> None:
    keep(Frozen(), shapes, tmp_path)
    file = next(tmp_path.glob("*.npy"))
    file.write_bytes(file.read_bytes()[:-100])
    frozen = Frozen()
    cached = keep(frozen, shapes, tmp_path)
    assert frozen.seen == 1 + len(shapes.train)
    assert cached.stored is not None


@pytest.mark.parametrize("damaged", ["npy", "sha256"])
def test_other_bytes_than_were_written_are_refused(tmp_path: Path, shapes: Dataset, damaged: str) -> None:
    keep(Frozen(), shapes, tmp_path)
    file = sorted(tmp_path.glob(f"*.{damaged}"))[1]
    array, record = file.with_suffix(".npy"), file.with_suffix(".sha256")
    assert record.read_text() == hashlib.sha256(array.read_bytes()).hexdigest() + "\n"
    with file.open("r+b") as handle:
        handle.seek(file.stat().st_size // 2)
        handle.write(b"\0\1")
    again = keep(Frozen(), shapes, tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{array.name} is damaged: .* {record.name}; delete both, and go on"):
            again.batch(torch.arange(4))
    array.unlink()
    record.unlink()
    assert keep(Frozen(), shapes, tmp_path).batch(torch.arange(4)).shape[0] == 4


def test_two_processes_that_write_at_once_do_no_harm(tmp_path: Path, shapes: Dataset) -> None:
    """The second one's record is written, and then the first one's file renamed; their bytes differ."""
    mine = keep(Frozen(), shapes, tmp_path)
    for record in tmp_path.glob("*.sha256"):
        with record.open("a") as lines:
            lines.write("ab" * 32 + "\n")
    assert mine.batch(torch.arange(4)).shape[0] == 4


def test_a_file_without_a_record_is_taken_as_it_is_and_one_deleted_meanwhile_stays_open(
    tmp_path: Path, shapes: Dataset
) -> None:
    """Older versions wrote no record."""
    wanted = keep(Frozen(), shapes, tmp_path).batch(torch.arange(4))
    for record in tmp_path.glob("*.sha256"):
        record.unlink()
    frozen = Frozen()
    kept = keep(frozen, shapes, tmp_path)
    assert frozen.seen == 1
    assert torch.equal(kept.batch(torch.arange(4)), wanted)
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    assert torch.equal(kept.batch(torch.arange(4)), wanted)


def test_what_nobody_writes_to_any_more_is_removed(tmp_path: Path, shapes: Dataset) -> None:
    ours, newer, theirs = ("0123456789abcdefx_yz12zz.tmp", "0123456789abcdefx_yz12zy.tmp", "notes.tmp")
    for name, age in ((ours, 90_000), (newer, 60), (theirs, 90_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    keep(Frozen(), shapes, tmp_path)
    assert {path.name for path in tmp_path.glob("*.tmp")} == {newer, theirs}


@pytest.mark.parametrize(
    ("before", "after", "further"),
    [
        (Views(), Views(flip=True), 1),
        (Views(flip=True), Views(), 0),
        (Views(flip=True), Views(flip=True, shifts=1), 2),
        (Views(shifts=2), Views(flip=True, shifts=1), 2),
    ],
)
def test_views_that_are_kept_serve_other_sets(
    tmp_path: Path, shapes: Dataset, before: Views, after: Views, further: int
) -> None:
    keep(Frozen(), shapes, tmp_path, views=before)
    frozen = Frozen()
    cached = keep(frozen, shapes, tmp_path, views=after)
    assert frozen.seen == 1 + further * len(shapes.train)
    live = features_of(Frozen(), shapes.train, views=after, device=CPU)
    indices = torch.arange(len(shapes.train)).repeat_interleave(after.count)
    chosen = torch.arange(after.count).repeat(len(shapes.train))
    assert torch.equal(cached.batch(indices, chosen), live.batch(indices, chosen))


def test_progress_counts_the_images_of_missing_views(tmp_path: Path, shapes: Dataset) -> None:
    keep(Frozen(), shapes, tmp_path, views=Views())
    told: list[tuple[int, int]] = []
    live = features_of(Frozen(), shapes.train, views=Views(flip=True, shifts=1), device=CPU)
    keep_features(
        live, identity="a", cache_dir=tmp_path, report=lambda line: None,
        progress=lambda label, done, total: told.append((done, total)), label="train",
    )  # fmt: skip
    assert told == [(96, 288), (192, 288), (288, 288)]


def test_without_room_features_are_computed_on_the_fly(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: usage)
    lines: list[str] = []
    source = keep(Frozen(), shapes, tmp_path, lines=lines)
    assert source.stored is None
    assert "on the fly" in lines[0]
    assert source.batch(torch.arange(4)).shape == (4, 3, 2, 4)


def test_an_unusable_folder_is_said_and_computed_around(tmp_path: Path, shapes: Dataset) -> None:
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    assert keep(Frozen(), shapes, tmp_path / "file" / "cache", lines=lines).stored is None
    assert "cannot be used" in lines[0]


def test_features_of_another_torch_are_computed_again(
    tmp_path: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(Frozen(), shapes, tmp_path)
    monkeypatch.setattr(torch, "__version__", "99.0")
    frozen = Frozen()
    keep(frozen, shapes, tmp_path)
    assert frozen.seen > 1
