"""What makes two runs the same: content keys of configurations, weights and data that need no training library."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from resnet_spiking.config import NAMED_WEIGHTS, RunConfig, content_key
from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.studies.grid import Run


class Identities:
    """Looks at each weights file and data folder once: for one planning, in which neither changes."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[Path, str] = {}

    def run_key(self, run: Run) -> str:
        """Return the key under which a run is found again.

        It depends on every setting that differs from its default, on the bytes of a weights file and on
        what the data folder lists: not on where either lies, so both may move.
        """
        settings = run.config.as_dict()
        changed = {name: settings[name] for name, default in _DEFAULTS.items() if settings[name] != default}
        return content_key("run", changed, self.weights(run.config.weights), self.data(run))

    def weights(self, weights: str) -> str:
        """Return the name of named weights, the sha256 of a file. Raises ``UserError`` when there is no such file."""
        if weights in NAMED_WEIGHTS:
            return weights
        if weights not in self._files:
            if not Path(weights).is_file():
                raise UserError(
                    f"weights {weights!r} are neither {', '.join(NAMED_WEIGHTS)} nor a file that exists; "
                    "give --weights BACKBONE=FILE"
                )
            self._files[weights] = file_sha256(Path(weights))
        return self._files[weights]

    def data(self, run: Run) -> str:
        """Return the dataset's name, and for an image folder a key of its file names and sizes.

        Raises ``UserError`` when the folder is missing or a folder in it cannot be read.
        """
        if run.config.dataset != "folder":
            return run.config.dataset
        folder = run.data_dir
        if folder is None or not folder.is_dir():
            raise UserError(
                f"dataset {run.dataset!r}: {folder or 'its data_dir'} is not a folder; give --data-dir "
                f"{run.dataset}=FOLDER"
            )
        if folder not in self._folders:
            try:
                self._folders[folder] = content_key("folder", sorted(_listing(folder)))
            except OSError as error:
                raise UserError(
                    f"dataset {run.dataset!r}: {error.filename} cannot be read ({error.strerror}); make it readable, "
                    f"or give --data-dir {run.dataset}=FOLDER"
                ) from None
        return self._folders[folder]


_DEFAULTS = {name: value for name, value in RunConfig().as_dict().items() if name != "weights"}


def _listing(folder: Path, prefix: str = "", above: tuple[Path, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield the files below ``folder`` with their sizes, without hidden ones and links that lead nowhere or in circles.

    Files that no loader reads count too: without them, finished runs would not find their folder again.
    """
    above = (*above, folder.resolve())
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                found = entry.stat()
            except OSError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                yield f"{prefix}{entry.name}", found.st_size
                continue
            inner = Path(entry.path)
            target = inner.resolve()
            if not any(place.is_relative_to(target) for place in above):
                yield from _listing(inner, f"{prefix}{entry.name}/", above)
