"""Features of a frozen network, computed once per image and view and kept in a memory-mapped file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from resnet_spiking.config import content_key
from resnet_spiking.data.images import ImageSet
from resnet_spiking.data.views import PLAIN, Views

CPU = torch.device("cpu")
Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Compute = Callable[[Tensor, Tensor], Tensor]
CPU_PART = 32  # images that a CPU takes through the frozen stages at once: more maps than that leave its caches


@dataclass(frozen=True)
class FeatureSource:
    """Where training and scoring take their features from: ``stored`` ones, or ``compute`` for each batch.

    ``compute(indices, chosen)`` returns the features ``[B, C, h, w]`` (or ``[B, F]``) of the
    images at ``indices [B]``, each in the view that ``chosen [B]`` says.
    """

    images: ImageSet
    views: Views
    device: torch.device
    compute: Compute
    stored: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return features ``[B, C, h, w]`` (or ``[B, F]``) of images in the chosen views, by default as they are."""
        chosen = torch.zeros_like(indices) if chosen is None else chosen.long()
        if self.stored is None:
            return self.compute(indices, chosen)
        rows = self.stored[chosen, indices].to(self.device)
        return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows

    def blocks(self, size: int) -> Iterable[tuple[int, Tensor, Tensor]]:
        """Yield every view in blocks: the view, the image indices and their freshly computed features."""
        for view in range(self.views.count):
            for indices in torch.arange(len(self)).split(size):
                yield view, indices, self.compute(indices, torch.full_like(indices, view))


def features_of(
    frozen: nn.Module, images: ImageSet, *, views: Views = PLAIN, precision: str = "fp32", device: torch.device = CPU
) -> FeatureSource:
    """Return the source that runs ``frozen`` on pixels, in ``bf16`` or ``fp32``, for each batch.

    A CPU takes a batch in parts of ``CPU_PART`` images: frozen stages have no statistics of a batch, so the
    features are the same.
    """

    def compute(indices: Tensor, chosen: Tensor) -> Tensor:
        pixels = views.apply(images.pixels(indices), indices, chosen)
        pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
        parts = pixels.split(CPU_PART) if device.type == "cpu" else (pixels,)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features = torch.cat([frozen(part) for part in parts])
        return features.bfloat16() if precision == "bf16" else features.float()

    return FeatureSource(images, views, device, compute)


def keep_features(
    live: FeatureSource, *, identity: object, cache_dir: Path | None, report: Report, progress: Progress, label: str
) -> FeatureSource:
    """Return ``live`` with its features stored: found in ``cache_dir``, or computed and written there.

    ``identity`` is what the features depend on besides the images and views (weights hash,
    architecture, image size, precision). The file is written under a temporary name and renamed
    when it is complete, so a kill leaves nothing half-written and two processes at once do no
    harm. Without room for it, or with ``cache_dir=None``, ``live`` itself is returned.
    """
    if cache_dir is None:
        return live
    sample = _rows(live.batch(torch.arange(1)))
    shape = (live.views.count, len(live), *sample.shape[1:])
    size = int(np.prod(shape)) * sample.element_size()
    where = [torch.__version__, live.device.type]
    key = content_key(identity, live.images.sha256, asdict(live.views), str(sample.dtype), list(shape), where)
    path = cache_dir / f"{key}.npy"
    if path.exists() and _intact(path, shape, sample.dtype):
        return replace(live, stored=_map(path))
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache_dir).free
        if size > free * 0.95:
            report(
                f"{label} features need {_readable(size)}, {cache_dir} has {_readable(free)}: computing them on the fly"
            )
            return live
        report(f"caching {label} features: {_readable(size)} in {cache_dir}")
        _write(live, path, shape, sample.dtype, lambda done, total: progress(f"{label} features", done, total))
    except OSError as error:
        report(
            f"the feature cache {cache_dir} cannot be used ({error.strerror}): computing {label} features on the fly"
        )
        return live
    return replace(live, stored=_map(path))


def _write(
    source: FeatureSource,
    path: Path,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    progress: Callable[[int, int], None],
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
