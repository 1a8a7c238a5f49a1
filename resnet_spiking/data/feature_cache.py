"""Features of a frozen network, computed once per image and view and kept in a memory-mapped file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from resnet_spiking.config import content_key
from resnet_spiking.data.images import ImageSet

Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FeatureSource:
    """Where training and scoring take their features from: the cache, or the frozen network itself.

    ``views`` is 1, or 2 when the mirror image of each picture is used too. ``precision`` is what
    the frozen network computes in, and how features are stored: ``bf16`` or ``fp32``.
    """

    frozen: nn.Module
    images: ImageSet
    views: int
    precision: str
    device: torch.device
    stored: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """Return features ``[B, C, h, w]`` (or ``[B, F]``) of the chosen images and views."""
        if self.stored is None:
            return self._compute(indices, mirrored)
        view = torch.zeros_like(indices) if mirrored is None else mirrored.long()
        rows = self.stored[view, indices].to(self.device)
        return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows

    def _compute(self, indices: Tensor, mirrored: Tensor | None) -> Tensor:
        pixels = self.images.pixels(indices)
        if mirrored is not None:
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        pixels = pixels.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.frozen(pixels)
        return features.bfloat16() if self.precision == "bf16" else features.float()

    def blocks(self, size: int) -> Iterable[tuple[int, Tensor, Tensor]]:
        """Yield every view in blocks: the view, the image indices and their freshly computed features."""
        for view in range(self.views):
            for indices in torch.arange(len(self)).split(size):
                yield view, indices, self._compute(indices, torch.full_like(indices, view, dtype=torch.bool))


def open_features(
    frozen: nn.Module,
    images: ImageSet,
    *,
    identity: object,
    views: int,
    precision: str,
    device: torch.device,
    cache_dir: Path | None,
    report: Report,
    progress: Progress,
    label: str,
) -> FeatureSource:
    """Return the features of ``images``, from the cache where possible.

    ``identity`` is what the frozen network's output depends on besides the images (weights hash,
    architecture, image size). The file is written under a temporary name and renamed when it is
    complete, so a kill leaves nothing half-written and two processes at once do no harm. Without
    room for it, or with ``cache_dir=None``, features are computed anew for each batch.
    """
    live = FeatureSource(frozen, images, views, precision, device)
    if cache_dir is None:
        return live
    sample = _rows(live.batch(torch.arange(1)))
    shape = (views, len(images), *sample.shape[1:])
    size = int(np.prod(shape)) * sample.element_size()
    path = cache_dir / f"{content_key(identity, images.sha256, views, precision, list(shape), torch.__version__)}.npy"
    if path.exists() and _intact(path, shape, sample.dtype):
        return FeatureSource(frozen, images, views, precision, device, _map(path))
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache_dir).free
    except OSError as error:
        report(f"the feature cache {cache_dir} cannot be used ({error.strerror}): computing features on the fly")
        return live
    if size > free * 0.95:
        report(f"{label} features need {_readable(size)}, {cache_dir} has {_readable(free)}: computing them on the fly")
        return live
    report(f"caching {label} features: {_readable(size)} in {cache_dir}")
    try:
        _write(live, path, shape, lambda done, total: progress(f"{label} features", done, total))
    except OSError as error:
        report(f"writing {label} features failed ({error.strerror}): computing them on the fly")
        return live
    return FeatureSource(frozen, images, views, precision, device, _map(path))


def _write(source: FeatureSource, path: Path, shape: tuple[int, ...], progress: Callable[[int, int], None]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    os.close(handle)
    try:
        kind = np.uint16 if source.precision == "bf16" else np.float32
        array = np.lib.format.open_memmap(name, mode="w+", dtype=kind, shape=shape)
        # A memory-mapped file is sparse: without this a full disk shows up as a fatal signal, not an error.
        descriptor = os.open(name, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, Path(name).stat().st_size)
            done, total = 0, shape[0] * shape[1]
            for view, indices, features in source.blocks(256):
                rows = _rows(features).cpu().contiguous()
                bits = rows.view(torch.uint16) if rows.dtype == torch.bfloat16 else rows
                array[view, indices.numpy()] = bits.numpy()
                done += len(indices)
                progress(done, total)
            array.flush()
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _rows(features: Tensor) -> Tensor:
    """Return features with channels last, as they are stored and as convolutions read them."""
    return features.permute(0, 2, 3, 1) if features.ndim == 4 else features


def _intact(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError):
        return False
    return array.shape == shape and array.dtype == (np.uint16 if dtype == torch.bfloat16 else np.float32)


def _map(path: Path) -> Tensor:
    # Copy-on-write: torch wants a writable buffer, the file itself stays untouched.
    array = np.load(path, mmap_mode="c")
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
