"""The user's cache folder: where downloads and frozen features go unless a command says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from resnet_spiking.errors import UserError


def cache_home() -> Path:
    """Return ``resnet_spiking`` below ``$XDG_CACHE_HOME``, or below ``~/.cache``.

    Raises ``UserError`` for a user without a home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet_spiking"
    except RuntimeError:
        raise UserError(
            "this user has no home folder to keep files in; set XDG_CACHE_HOME to a folder, or name places with "
            "--data-dir and --cache-dir (or --no-cache)"
        ) from None
