"""What ``precision = "auto"`` stands for in a study: one thing, on whatever machine it goes on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import torch

from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import temporary_beside
from resnet_spiking.training.precision import resolve_precision

NAME = "precision.json"


def settled_precision(folder: Path, device: torch.device) -> tuple[str, str | None]:
    """Return what ``auto`` is in the study in ``folder``, and a line to report where ``device`` would choose otherwise.

    The first task that asks settles it by its device: runs that stand on one Default, or are averaged over seeds, must
    not differ in it, and a study may go on elsewhere.
    """
    path, here = folder / NAME, resolve_precision("auto", device)
    if not path.exists():
        _settle(path, here)
    try:
        settled = resolve_precision(json.loads(path.read_text())["auto"], device)
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f'{path} is damaged; write {{"auto": "bf16"}} or {{"auto": "fp32"}} there, as the results have it'
        ) from None
    if settled == here:
        return settled, None
    return settled, (
        f"precision auto is {settled} in this study, as where it began; {device.type} here would choose {here} "
        "(name a precision in the study file to have that)"
    )


def _settle(path: Path, precision: str) -> None:
    offer = temporary_beside(path)
    try:
        offer.write_text(json.dumps({"auto": precision}) + "\n")
        # Another worker may be first: its word stands.
        with suppress(FileExistsError):
            os.link(offer, path)
    finally:
        offer.unlink(missing_ok=True)
