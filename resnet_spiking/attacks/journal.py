"""Finished pieces of a long evaluation, each written once: what a resumed evaluation reads instead of computing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spiking.errors import UserError
from resnet_spiking.storage.arrays import Arrays, load_arrays, save_arrays


class Journal:
    """A folder with one file per finished piece; without a folder nothing is kept.

    A piece is a pure function of its key and of the pieces before it, so reading one back and computing
    it again are the same, and a kill loses at most the piece in work.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def arrays(self, key: str, compute: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
        """Return the arrays of the piece ``key`` (a file name), from disk or computed and written.

        Raises ``UserError`` when the file is damaged.
        """
        if self.folder is None:
            return dict(compute())
        path = self.folder / f"{key}.npz"
        if path.exists():
            try:
                return load_arrays(path)
            except ValueError as error:
                raise UserError(
                    f"{path} is damaged ({error}); delete it: its images alone are attacked again"
                ) from None
        found = dict(compute())
        save_arrays(path, found)
        return found

    def value(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the JSON-ready value of the piece ``key``, from disk or computed and written."""
        return json.loads(str(self.arrays(key, lambda: {"json": np.array(json.dumps(compute()))})["json"]))
