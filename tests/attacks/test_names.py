"""The table of attacks."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from resnet_spiking.attacks.names import ATTACKS, find_attack
from resnet_spiking.errors import UserError


@pytest.mark.parametrize("name", ATTACKS)
def test_every_row_loads_and_its_preset_fits(name: str) -> None:
    entry = find_attack(name)
    parameters = inspect.signature(entry.load()).parameters
    assert list(parameters)[:3] == ["target", "images", "labels"]
    assert set(entry.preset) <= set(parameters)
    assert ("norm" if entry.kind == "minimum-norm" else "threat") in parameters
    assert entry.norms
    assert entry.summary


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"attack 'apgd-cee' is unknown \(did you mean 'apgd-ce'\?\); choose from: noise"
    ):
        find_attack("apgd-cee")


def test_names_come_without_torch() -> None:
    script = (
        "import sys, resnet_spiking.attacks as a, resnet_spiking.attacks.names as n; n.find_attack('fgsm'); "
        "assert 'torch' not in sys.modules and 'attack' in a.__all__; "
        "assert not hasattr(a, 'no_such_name')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
