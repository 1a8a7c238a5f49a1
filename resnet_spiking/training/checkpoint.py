"""A run's weights (safetensors) and its state to resume from (loaded without executing pickle)."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.schema import Shape, check, count, number
from resnet_spiking.storage.files import file_sha256, write_atomically
from resnet_spiking.training.loop import Progress

# What torch raises for a damaged file, and what follows from one that holds something else.
UNLOADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    pickle.UnpicklingError,
)

_PROGRESS: dict[str, Shape] = {
    "epoch": count,
    "step": count,
    "sums": dict,
    "history": [{"seconds": number}],
    "threads?": [count],
}


def save_model(path: Path, network: nn.Module, identity: dict[str, str]) -> None:
    """Store the decoder's tensors with the backbone's identity in the header."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    # One entry: safetensors writes several in an order that changes from process to process.
    header = {"identity": json.dumps(identity, sort_keys=True)}
    # Written by us: save_file lets nobody but the owner read its files.
    write_atomically(path, lambda temporary: temporary.write_bytes(save(tensors, metadata=header)))


def load_model(path: Path, network: nn.Module, *, sha256: str | None = None) -> dict[str, str]:
    """Load what ``save_model`` stored; return its header.

    Raises ``UserError`` when it does not fit, is damaged, or is not the file whose ``sha256`` a result names.
    """
    if path.exists() and not os.access(path, os.R_OK):
        raise UserError(f"cannot read {path} (Permission denied); ask its owner, or name another folder")
    try:
        with safe_open(path, "pt") as handle:
            identity = dict(json.loads((handle.metadata() or {})["identity"]))
        if sha256 is not None and (found := file_sha256(path)) != sha256:
            raise UserError(
                f"{path} (sha256 {found[:12]}…) is not the file that the result beside it names ({sha256[:12]}…); put "
                f"that back, or delete {path.parent} and train again"
            )
        tensors = load_file(path)
        network.load_state_dict(tensors)
        if odd := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{odd[0]} holds values that are not finite")
    except UserError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); delete {path.parent} and train again") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} belongs to another configuration ({reason})") from None
    return identity


def save_state(
    path: Path,
    config: RunConfig,
    basis: dict[str, str],
    phase: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Store everything that training needs to continue; ``basis`` has the hashes of what it stands on, by name."""
    state = {
        "config": config.as_dict(),
        "basis": basis,
        "phase": phase,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_state(
    path: Path,
    config: dict[str, object],
    basis: dict[str, str],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Restore ``save_state``'s file into ``network`` and ``optimizer``.

    ``config`` and ``basis`` hold what must agree. Raises ``UserError`` for a damaged file, another configuration, or
    other data or weights than it was begun on.
    """
    damaged = f"{path} is damaged or no checkpoint; delete it to start this phase again"
    try:
        with zipfile.ZipFile(path) as archive:
            # torch's reader does not look whether the bytes are those that were written.
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        begun = RunConfig.from_dict(state["config"])
        stored, unread = begun.as_dict(), begun.unread()
        different = [name for name, value in config.items() if stored[name] != value and name not in unread]
        # A state of an older version does not say what it stands on.
        begun_on = state.get("basis", basis)
        others = [name for name, value in basis.items() if begun_on.get(name) != value]
    except (*UNLOADABLE, zipfile.BadZipFile, zlib.error):
        raise UserError(damaged) from None
    if different:
        raise UserError(
            f"{path} was written with another configuration ({', '.join(different)}); "
            "use the same options, or --overwrite"
        )
    if others:
        raise UserError(
            f"{path} was begun on other {', '.join(others)} than there is now; put back what was there, or delete "
            "it to start this phase again"
        )
    try:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        check(state["progress"], _PROGRESS, str(path), advice="")
        progress = Progress(**state["progress"])
        if progress.epoch != len(progress.history):
            raise ValueError("the history of other epochs")
        return progress
    except UNLOADABLE:
        raise UserError(damaged) from None
