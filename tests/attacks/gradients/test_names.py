from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from resnet_spiking.attacks.gradients.names import GRID, list_modes, make_mode
from resnet_spiking.errors import UserError

WITH_VALUES = ["atan:0.5", "triangle:1", "fast_sigmoid:25", "atan:2.123456789", "assg:0.45", "rga:0.3", "hart:atan:4"]


@pytest.mark.parametrize("text", [*list_modes(), *GRID, *WITH_VALUES])
def test_a_modes_name_makes_it_again(text: str) -> None:
    mode = make_mode(text)
    assert mode.name == text or mode.name.startswith(f"{text}:")
    again = make_mode(mode.name)
    assert type(again) is type(mode)
    assert again.name == mode.name


def test_values_arrive() -> None:
    # What a mode takes is its own class's business: the name alone does not say which class that is.
    make: Callable[[str], Any] = make_mode
    assert make("atan:8").surrogate == ("atan", 8.0)
    assert make("rga:0.3").gamma == 0.3
    assert make("hart:triangle:3").surrogate == ("triangle", 3.0)
    assert make("assg:0.25").omega == pytest.approx(0.63662, rel=1e-5)  # tan(pi/4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asg", "did you mean 'assg'"),
        ("atn:2", "did you mean 'atan'"),
        ("", "choose from: own, atan"),
        ("atan:steep", r"slope of gradient mode 'atan' must be a number in \(0, 1e\+38\), not 'steep'"),
        ("atan:-1", "slope"),
        ("atan:", "slope"),
        ("atan:nan", "slope"),
        ("triangle:inf", "slope"),
        ("assg:0.5", r"number in \(0, 0.5\)"),
        ("rga:2", r"number in \(0, 1\)"),
        ("ste:2", "takes no value"),
        ("bptr:", "takes no value"),
        ("hart:atn", "did you mean 'atan'"),
        ("hart:atan:x", "slope"),
    ],
)
def test_what_is_not_a_mode(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_mode(text)


def test_names_need_no_torch() -> None:
    code = (
        "import sys, resnet_spiking.attacks.gradients.names as names; names.list_modes()\n"
        "try: names.make_mode('nothing')\n"
        "except ValueError: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
