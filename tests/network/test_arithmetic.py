from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import resnet_spiking
from resnet_spiking.network.arithmetic import plain_arithmetic, rounds_to_tf32

NAMED = hasattr(torch.backends.cudnn, "conv")


def test_tf32_and_unordered_sums_are_off_inside_and_as_before_after_an_exception() -> None:
    assert rounds_to_tf32(), "torch's default has changed"
    assert not torch.backends.cudnn.deterministic
    seen = []

    @plain_arithmetic()
    def fail() -> None:
        seen.append((rounds_to_tf32(), torch.backends.cudnn.deterministic))
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()
    assert seen == [(False, True)] * 2
    assert rounds_to_tf32()
    assert not torch.backends.cudnn.deterministic


# What a user has said, and whether anything is rounded then.
SETTINGS = {
    "flags": ("torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False", False),
    "one-word": ("torch.set_float32_matmul_precision('high')", True),
    "name-for-convolutions": ("torch.backends.cudnn.conv.fp32_precision = 'ieee'", False),
    "name-for-all": ("torch.backends.fp32_precision = 'tf32'", True),
}
PROGRAM = """
import torch
{setting}
from resnet_spiking.network.arithmetic import _precision, plain_arithmetic, rounds_to_tf32
before = _precision(), rounds_to_tf32()
with plain_arithmetic():
    assert not rounds_to_tf32()
assert (_precision(), rounds_to_tf32()) == before
print("restored", before[1])
"""


@pytest.mark.parametrize("setting", [name for name in SETTINGS if NAMED or "name" not in name])
def test_whatever_a_user_has_set_is_put_aside_and_restored(setting: str) -> None:
    """In processes of their own: torch remembers which of its two ways to say it was used."""
    said, rounded = SETTINGS[setting]
    root = str(Path(resnet_spiking.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(setting=said)], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.stdout.split() == ["restored", str(rounded)], done.stderr
