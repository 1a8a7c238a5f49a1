"""What became of every image: the table per model that all figures are computed from, kept losslessly."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.errors import UserError
from resnet_spiking.storage.arrays import Arrays, load_arrays, save_arrays

# What an attack did to an image at an eps.
NOT_TRIED, SURVIVED, BROKEN = -1, 0, 1

# Of each array: what its elements are, and its axes (N images of C x H x W, S attacks, E radii).
_STORED = {
    "norm": ("U", ""),
    "eps": ("f", "E"),
    "stages": ("U", "S"),
    "images": ("u1", "NCHW"),
    "index": ("i", "N"),
    "label": ("i", "N"),
    "clean_prediction": ("i", "N"),
    "clean_correct": ("b", "N"),
    "broken": ("i", "N"),
    "broken_by": ("i", "N"),
    "adversarial": ("f4", "NCHW"),
    "margin": ("f", "N"),
    "steps": ("i", "N"),
    "minimum_norm": ("f", "N"),
    "tried": ("i", "ESN"),
}


@dataclass
class Examples:
    """N images under S attacks at E radii; the arrays are numpy, as they are stored.

    ``eps [E]`` ascending, pixels of [0, 1]; ``stages [S]`` the attacks' labels; ``images uint8 [N, C, H, W]`` clean;
    ``index``, ``label``, ``clean_prediction``, ``clean_correct`` ``[N]``; ``broken [N]``: the position in ``eps`` of
    the smallest radius at which the image was broken, E when it never was (a clean error stays at E);
    ``broken_by [N]``: the attack's position in ``stages``, or -1; ``adversarial float32 [N, C, H, W]``: the image that
    did it, else the clean one; ``margin``, ``steps`` ``[N]`` of it; ``minimum_norm [N]``: the smallest norm the
    minimum-norm attack found, inf where none; ``tried int8 [E, S, N]``: ``NOT_TRIED``, ``SURVIVED`` or ``BROKEN``.
    """

    norm: str
    eps: NDArray[np.float64]
    stages: NDArray[np.str_]
    images: NDArray[np.uint8]
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    clean_prediction: NDArray[np.int64]
    clean_correct: NDArray[np.bool_]
    broken: NDArray[np.int64]
    broken_by: NDArray[np.int64]
    adversarial: NDArray[np.float32]
    margin: NDArray[np.float32]
    steps: NDArray[np.int64]
    minimum_norm: NDArray[np.float64]
    tried: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.index)

    def surviving(self, radius: int) -> NDArray[np.bool_]:
        """Say which images ``[N]`` are classified correctly and unbroken up to the radius at that position."""
        return self.clean_correct & (self.broken > radius)

    def inferred(self, radius: int) -> NDArray[np.bool_]:
        """Say which images ``[N]`` were, with radii in descending order, taken to stand at that position unattacked.

        They were attacked at the next larger radius or one above it, and stood.
        """
        return self.surviving(radius + 1)

    @property
    def is_broken(self) -> NDArray[np.bool_]:
        """Say for which images ``[N]`` an adversarial image is kept."""
        return self.broken < len(self.eps)

    @property
    def smallest_eps(self) -> NDArray[np.float64]:
        """Return for each image ``[N]`` the smallest radius at which it was broken, inf where it never was."""
        return np.append(self.eps, np.inf)[self.broken]

    def distance(self, norm: str) -> NDArray[np.float64]:
        """Return ``||x' - x||_p [N]`` of the kept images, in fp64."""
        change = (self.adversarial.astype(np.float64) - self.clean().astype(np.float64)).reshape(len(self), -1)
        if not len(self):
            return np.zeros(0)
        return np.abs(change).max(1) if norm == "linf" else np.sqrt((change**2).sum(1))

    def clean(self) -> NDArray[np.float32]:
        """Return the clean images as the model saw them, ``float32`` in [0, 1]."""
        return self.images.astype(np.float32) / np.float32(255)

    def save(self, path: Path) -> None:
        """Store everything, with the two norms of each perturbation beside it, atomically."""
        arrays: Arrays = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        arrays |= {f"distance_{norm}": self.distance(norm) for norm in ("linf", "l2")}
        save_arrays(path, arrays, compressed=True)

    @staticmethod
    def load(path: Path) -> Examples:
        """Read what ``save`` stored. Raises ``UserError`` when it is missing, damaged, incomplete or something else."""
        try:
            stored = load_arrays(path)
            values: dict[str, Any] = {name: stored[name] for name in _STORED}
            _check_stored(values)
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is missing or damaged ({error}); attack the runs again with --overwrite") from None
        return Examples(**{**values, "norm": str(values["norm"])})


def _check_stored(values: Arrays) -> None:
    """Raise ``ValueError`` naming the first array that is not as ``save`` stores it."""
    sizes: dict[str, int] = {}
    for name, (kind, axes) in _STORED.items():
        array = values[name]
        fits = len(axes) == array.ndim and all(
            sizes.setdefault(axis, size) == size for axis, size in zip(axes, array.shape, strict=True)
        )
        if kind not in (array.dtype.kind, array.dtype.str[1:]) or not fits:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
    for name, low, high in (("broken", 0, sizes["E"]), ("broken_by", -1, sizes["S"] - 1), ("tried", NOT_TRIED, BROKEN)):
        if ((values[name] < low) | (values[name] > high)).any():
            raise ValueError(f"{name} has values outside {low}..{high}")
