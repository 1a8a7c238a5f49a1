"""Where a result comes from: versions, machine, git revision, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from resnet_spiking.storage.whereabouts import home_prefix

LIBRARIES = ("torch", "torchvision", "snntorch", "norse", "numpy", "safetensors", "resnet_spiking")


def provenance(device: torch.device) -> dict[str, object]:
    """Return what a reader needs to repeat a run on the same software."""
    return {
        "command": command_line(sys.argv),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "git": _git_revision(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def command_line(arguments: Sequence[str]) -> str:
    """Return what to type in a POSIX shell to start this process again, from ``sys.argv``.

    The user's home folder is written ``~``, since results are published.
    """
    program, *rest = arguments
    package = Path(__file__).resolve().parents[1]
    if Path(program).resolve().parent == package:
        stem = Path(program).stem
        words = ["python", "-m", package.name if stem == "__main__" else f"{package.name}.{stem}"]
    else:
        words = ["python", *([program] if program else [])]
    return " ".join(map(_quoted, [*words, *rest]))


def _quoted(word: str) -> str:
    home = home_prefix()
    if home is None:
        return shlex.quote(word)
    option, equals, value = word.partition("=")
    if equals and value.startswith(home):
        # Only a word that begins with ~ is expanded.
        return f"{shlex.quote(option)} {_quoted(value)}"
    return f"~/{shlex.quote(word.removeprefix(home))}" if word.startswith(home) else shlex.quote(word)


def device_name(device: torch.device) -> str:
    """Return what a result calls the device: ``cpu``, or the GPU's name."""
    return str(device) if device.type == "cpu" else torch.cuda.get_device_name(device)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@lru_cache
def _git_revision() -> str:
    """Return the revision of the checkout this package stands in, with ``+`` when files changed; else ``none``."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return "none"
    try:
        revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")
