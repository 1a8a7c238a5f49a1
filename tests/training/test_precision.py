"""What ``--precision auto`` becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnet_spiking.errors import UserError
from resnet_spiking.training.precision import resolve_precision


def test_auto_follows_the_processor() -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    expected = "bf16" if "amx_bf16" in flags else "fp32"
    assert resolve_precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_a_choice_is_kept(name: str) -> None:
    assert resolve_precision(name, torch.device("cpu")) == name


def test_unknown_precision() -> None:
    with pytest.raises(UserError, match=r"fp8.*auto, bf16, fp32"):
        resolve_precision("fp8", torch.device("cpu"))
