"""NumPy archives, written whole or not at all."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.storage.files import write_atomically

Arrays = dict[str, NDArray[Any]]


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False) -> None:
    """Store named arrays in one file; equal arrays give equal bytes."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            (np.savez_compressed if compressed else np.savez)(handle, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def load_arrays(path: Path) -> Arrays:
    """Return what ``save_arrays`` stored.

    Raises ``ValueError``, with the reason, when the file is missing or damaged.
    """
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("one array, not several with names")
            return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from None
