"""Features of a frozen network, computed once per image and view and kept in memory-mapped files, one per view."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from resnet_spiking.config import content_key
from resnet_spiking.data.images import ImageSet
from resnet_spiking.data.transfer import sent
from resnet_spiking.data.views import PLAIN, Views
from resnet_spiking.errors import UserError, check_known
from resnet_spiking.storage.files import file_sha256

CPU = torch.device("cpu")
Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Compute = Callable[[Tensor, Tensor], Tensor]
CPU_PART = 32  # images that a CPU takes through the frozen stages at once: more maps than that leave its caches
BLOCK = 256  # images between two reports of progress
ABANDONED = 86_400  # seconds
UNFINISHED = re.compile(r"[0-9a-f]{16}\w{8}\.tmp")
_CHECKED: set[tuple[Path, int, int, int]] = set()


@dataclass(frozen=True)
class FeatureSource:
    """Where training and scoring take features from: ``stored`` ones, view by view, or ``compute`` for each batch.

    ``compute(indices, chosen)`` returns the features ``[B, C, h, w]`` (or ``[B, F]``) of the
    images at ``indices [B]``, each in the view that ``chosen [B]`` says. ``files`` are those of what is ``stored``.
    """

    images: ImageSet
    views: Views
    device: torch.device
    compute: Compute
    stored: tuple[Tensor, ...] | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return features ``[B, C, h, w]`` (or ``[B, F]``) of images in the chosen views, by default as they are.

        Raises ``UserError`` when a file of stored ones does not hold the bytes that were written: all are read once in
        a process, before the first batch.
        """
        chosen = torch.zeros_like(indices) if chosen is None else chosen.long()
        if self.stored is None:
            return self.compute(indices, chosen)
        for path in self.files:
            _check_bytes(path)
        rows = sent(_picked(self.stored, chosen, indices), self.device)
        return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows


def features_of(
    frozen: nn.Module, images: ImageSet, *, views: Views = PLAIN, precision: str = "fp32", device: torch.device = CPU
) -> FeatureSource:
    """Return the source that runs ``frozen`` on pixels, in ``bf16`` or ``fp32``, for each batch.

    A CPU takes a batch in parts of ``CPU_PART`` images: frozen stages have no statistics of a batch, so the
    features are the same.

    Raises ``UserError`` for another precision.
    """
    check_known("precision", precision, ("bf16", "fp32"))

    def compute(indices: Tensor, chosen: Tensor) -> Tensor:
        pixels = views.apply(sent(images.pixels(indices), device), indices, chosen)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        parts = pixels.split(CPU_PART) if device.type == "cpu" else (pixels,)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features = torch.cat([frozen(part) for part in parts])
        return features.bfloat16() if precision == "bf16" else features.float()

    return FeatureSource(images, views, device, compute)


def keep_features(
    live: FeatureSource, *, identity: object, cache_dir: Path | None, report: Report, progress: Progress, label: str
) -> FeatureSource:
    """Return ``live`` with its features stored: found in ``cache_dir``, or computed and written there.

    ``identity`` is what the features depend on besides the images and the view (weights hash, architecture,
    image size, precision). Every view has a file of its own, which serves any set of views that it is part of:
    turning ``--flip`` on computes the mirror images alone. A file is written under a temporary name and renamed
    when it is complete, so a kill leaves nothing half-written and two processes at once do no harm; its sha256 lies
    beside it (see ``FeatureSource.batch``). Without room for what is missing, or with
    ``cache_dir=None``, ``live`` itself is returned.
    """
    if cache_dir is None:
        return live
    sample = _rows(live.batch(torch.arange(1)))
    shape, dtype = (len(live), *sample.shape[1:]), sample.dtype
    where = [torch.__version__, live.device.type]
    paths = [
        cache_dir / f"{content_key(identity, live.images.sha256, made, str(dtype), list(shape), where)}.npy"
        for made in live.views.described()
    ]
    missing = [view for view, path in enumerate(paths) if not _intact(path, shape, dtype)]
    if missing:
        size = int(np.prod(shape)) * sample.element_size() * len(missing)

        def tell(before: int, done: int) -> None:
            progress(f"{label} features", before + done, len(live) * len(missing))

        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(cache_dir)
            free = shutil.disk_usage(cache_dir).free
            if size > free * 0.95:
                need, room = _readable(size), _readable(free)
                report(f"{label} features need {need}, {cache_dir} has {room}: computing them on the fly")
                return live
            report(f"caching {label} features: {_readable(size)} in {cache_dir}")
            for number, view in enumerate(missing):
                _write(live, view, paths[view], shape, dtype, partial(tell, number * len(live)))
        except OSError as error:
            report(
                f"the feature cache {cache_dir} cannot be used ({error.strerror}): "
                f"computing {label} features on the fly"
            )
            return live
    return replace(live, stored=tuple(_map(path) for path in paths), files=tuple(paths))


def _write(
    source: FeatureSource,
    view: int,
    path: Path,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    progress: Callable[[int], None],
) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    os.close(handle)
    try:
        kind = np.uint16 if dtype == torch.bfloat16 else np.float32
        array = np.lib.format.open_memmap(name, mode="w+", dtype=kind, shape=shape)
        # A memory-mapped file is sparse: without this a full disk shows up as a fatal signal, not an error.
        descriptor = os.open(name, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, Path(name).stat().st_size)
            for indices in torch.arange(len(source)).split(BLOCK):
                rows = _rows(source.compute(indices, torch.full_like(indices, view))).cpu().contiguous()
                bits = rows.view(torch.uint16) if rows.dtype == torch.bfloat16 else rows
                array[indices.numpy()] = bits.numpy()
                progress(int(indices[-1]) + 1)
            array.flush()
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with _record(path).open("a") as record:
            # Another process may write the same features, by other sums in the last bits: either file is whole.
            record.write(file_sha256(Path(name)) + "\n")
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _picked(stored: tuple[Tensor, ...], chosen: Tensor, indices: Tensor) -> Tensor:
    """Return the rows at ``indices [B]``, each from the view that ``chosen [B]`` says."""
    rows = stored[0].new_empty(len(indices), *stored[0].shape[1:])
    for view in chosen.unique().tolist():
        members = chosen == view
        rows[members] = stored[view][indices[members]]
    return rows


def _rows(features: Tensor) -> Tensor:
    """Return features with channels last, as they are stored and as convolutions read them."""
    return features.permute(0, 2, 3, 1) if features.ndim == 4 else features


def _intact(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError):  # a file that is not there included
        return False
    return array.shape == shape and array.dtype == (np.uint16 if dtype == torch.bfloat16 else np.float32)


def _check_bytes(path: Path) -> None:
    """Compare a file with the sha256 beside it, once in a process; one of an older version has none."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return  # deleted by somebody since it was opened, as whom it still is there
    found = (path, state.st_size, state.st_mtime_ns, state.st_ino)
    if found in _CHECKED:
        return
    record = _record(path)
    if record.is_file() and file_sha256(path) not in record.read_text().split():
        raise UserError(f"{path} is damaged: its sha256 is not in {record.name}; delete both, and go on")
    _CHECKED.add(found)


def _record(path: Path) -> Path:
    """Return the file that lists the sha256 of each file that was written to ``path``."""
    return path.with_suffix(".sha256")


def _remove_abandoned(folder: Path) -> None:
    """Delete features that no process has gone on writing for a day: each file is as large as it was to become."""
    for left in folder.glob("*.tmp"):
        with suppress(OSError):
            if UNFINISHED.fullmatch(left.name) and time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def _map(path: Path) -> Tensor:
    # Copy-on-write: torch wants a writable buffer, the file itself stays untouched.
    array = np.load(path, mmap_mode="c")
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
