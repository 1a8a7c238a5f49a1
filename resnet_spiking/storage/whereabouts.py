"""How a record names a folder that lies elsewhere, so that it is found again from wherever the record is read."""

from __future__ import annotations

import os
from pathlib import Path


def beside(run: Path) -> Path:
    """Return the folder that ``run`` lies in, also of a run that is named ``.`` or ``runs/x/..``."""
    return run.resolve().parent if run.name in ("", "..") else run.parent


def named(place: Path) -> str:
    """Return ``place`` as it was given, with ``~`` for the user's home folder, since results are published."""
    home, text = home_prefix(), str(place)
    return f"~/{text.removeprefix(home)}" if home and text.startswith(home) else text


def home_prefix() -> str | None:
    """Return how paths in the user's home folder begin; None for a user without one."""
    try:
        return f"{Path.home()}{os.sep}"
    except RuntimeError:
        return None


def from_folder(place: Path, folder: Path) -> str:
    """Return the way from ``folder`` to ``place``, which holds wherever the two are moved together.

    Where they have nothing but the root in common, which is no reason to move them together, it is ``named``.
    """
    # The name that it was given stays: a link may be called otherwise than what it leads to.
    there = place.resolve() if place.name in ("", "..") else place.parent.resolve() / place.name
    here = folder.resolve()
    return named(there) if os.path.commonpath([there, here]) == here.anchor else os.path.relpath(there, here)


def places(folder: Path, way: str | None, name: str) -> list[Path]:
    """Return where what a record in ``folder`` calls ``name`` may lie, first by the ``way``, which older ones lack."""
    return list(dict.fromkeys([*([] if way is None else [folder / _expanded(way)]), _expanded(name)]))


def _expanded(text: str) -> Path:
    home = home_prefix()
    return Path(home) / text.removeprefix("~/") if home and text.startswith("~/") else Path(text)
