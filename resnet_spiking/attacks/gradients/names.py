"""The gradient modes by name, without importing torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from neurons.parameters import STEEPEST, SURROGATES
from resnet_spiking.errors import UserError, check_known

if TYPE_CHECKING:
    from resnet_spiking.attacks.gradients.mode import GradientMode

GRID = ("atan:0.5", "atan:1", "atan:2", "atan:4", "atan:8", "atan:16", "triangle:1", "ste")
"""The surrogates that a bundle attacks every head with."""

SUMMARIES = {
    "own": "the surrogate that each layer was trained with",
    **{family: f"the surrogate {family} for every neuron, its slope after a colon" for family in SURROGATES},
    "ste": "straight-through: the step's derivative is 1",
    "assg": "arctangent as sharp as each neuron's potentials allow; its a after a colon (0.425)",
    "bptr": "rates instead of spikes, straight through where a neuron fires",
    "rga": "rates of a leaky neuron, piecewise linear; its gamma after a colon (0.2)",
    "hart": "gradients averaged over time, a surrogate per step, no memory; its surrogate after a colon (atan:2)",
    "relu": "every neuron a ReLU of its mean current",
    "expected": "whatever is drawn replaced by its mean",
}

_SLOPES = {"atan": 2.0, "fast_sigmoid": 25.0, "sigmoid": 4.0, "triangle": 1.0, "rectangle": 1.0}


def list_modes() -> list[str]:
    """Return the names that ``make_mode`` accepts, without their values."""
    return list(SUMMARIES)


def with_value(name: str, value: float) -> str:
    """Return what ``make_mode`` reads: the name, a colon and the value without loss."""
    return f"{name}:{value}".removesuffix(".0")


def make_mode(text: str) -> GradientMode:
    """Return the mode that ``text`` names: ``own``, ``atan:2``, ``ste``, ``assg``, ``bptr``, ``rga``, ``hart``, ...

    A surrogate family takes a slope after a colon (``SUMMARIES`` tells what else does) and has a default
    without one. ``make_mode(mode.name)`` makes the same mode again.

    Raises ``UserError`` for an unknown name, with the nearest one, and for a value that the mode does not take.
    """
    name, colon, value = str(text).strip().partition(":")
    check_known("gradient mode", name, SUMMARIES)
    if colon and name in ("own", "ste", "bptr", "relu", "expected"):
        raise UserError(f"gradient mode {name!r} takes no value, not {value!r}")
    return _MAKERS.get(name, _surrogate)(name, value if colon else None)


def _surrogate(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.surrogate import SurrogateMode

    return SurrogateMode(name, _number(name, "slope", value, _SLOPES.get(name, 1.0), STEEPEST))


def _own(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.mode import OwnSurrogate

    return OwnSurrogate()


def _assg(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.assg import AdaptiveSharpness

    return AdaptiveSharpness(_number(name, "a", value, 0.425, 0.5))


def _bptr(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.bptr import BackwardThroughRate

    return BackwardThroughRate()


def _rga(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.rga import RateGradient

    return RateGradient(_number(name, "gamma", value, 0.2, 1.0))


def _hart(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.hart import Hart

    if value is None:
        return Hart()
    family, _, slope = value.partition(":")
    check_known("gradient mode 'hart': surrogate", family, SURROGATES)
    return Hart(family, _number(name, "slope", slope or None, _SLOPES.get(family, 1.0), STEEPEST))


def _relu(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.relaxed import Relaxed

    return Relaxed()


def _expected(name: str, value: str | None) -> GradientMode:
    from resnet_spiking.attacks.gradients.expected import ExpectedRate

    return ExpectedRate()


_MAKERS: dict[str, Callable[[str, str | None], GradientMode]] = {
    "own": _own,
    "assg": _assg,
    "bptr": _bptr,
    "rga": _rga,
    "hart": _hart,
    "relu": _relu,
    "expected": _expected,
}


def _number(name: str, what: str, text: str | None, default: float, below: float) -> float:
    """Return ``text`` as a number in (0, below)."""
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < below:
        raise UserError(f"the {what} of gradient mode {name!r} must be a number in (0, {below:g}), not {text!r}")
    return number
