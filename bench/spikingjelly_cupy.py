"""SpikingJelly's cupy backend, which its last release before 2.0 had, beside the installed SpikingJelly.

pip install --no-deps --target FOLDER spikingjelly==0.0.0.0.14     # and cupy, for the CUDA version of torch
SPIKINGJELLY_CUPY=FOLDER pytest bench/test_neurons_speed.py -k cuda
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

import numpy as np

FOLDER = os.environ.get("SPIKINGJELLY_CUPY")
PACKAGE = "spikingjelly"


def available() -> bool:
    return bool(FOLDER) and importlib.util.find_spec("cupy") is not None


def load() -> tuple[ModuleType, ModuleType]:
    """Return the old release's modules `neuron` and `surrogate`; whatever is imported as spikingjelly stays so."""
    # It asks numpy for a name that numpy 1.24 dropped.
    if not hasattr(np, "int"):
        np.int = int  # type: ignore[attr-defined]
    installed = _take_out()
    sys.path.insert(0, str(FOLDER))
    try:
        return tuple(importlib.import_module(f"{PACKAGE}.activation_based.{name}") for name in ("neuron", "surrogate"))
    finally:
        sys.path.remove(str(FOLDER))
        _take_out()
        sys.modules.update(installed)


def _take_out() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == PACKAGE}
