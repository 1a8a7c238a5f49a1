"""Export to NIR without nir, or with one whose LIF is another equation: in every environment, whatever it has."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from neurons.nir import to_nir


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"pip install 'resnet_spiking\[nir\]'"):
        to_nir([nn.Linear(2, 3)])


def test_a_nir_whose_lif_subtracts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The LIF of nir 1.0.4, which sinabs asks for, has no v_reset and subtracts its threshold."""

    class LIF:
        def __init__(self, tau: Any, r: Any, v_leak: Any, v_threshold: Any) -> None: ...

    old: Any = ModuleType("nir")
    old.LIF, old.__version__ = LIF, "1.0.4"
    monkeypatch.setitem(sys.modules, "nir", old)
    with pytest.raises(ImportError, match=r"needs nir >= 1\.0\.6, .* the installed 1\.0\.4 subtracts"):
        to_nir([nn.Linear(2, 3)])
