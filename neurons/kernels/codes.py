"""Resets and surrogates as the small integers that compiled kernels branch on."""

from __future__ import annotations

from neurons.parameters import RESETS, SURROGATES

RESET_CODES = {name: code for code, name in enumerate(RESETS)}
SURROGATE_CODES = {name: code for code, name in enumerate(SURROGATES)}

ZERO, SUBTRACT, NONE = (RESET_CODES[name] for name in ("zero", "subtract", "none"))
ATAN, FAST_SIGMOID, SIGMOID, TRIANGLE, RECTANGLE = (
    SURROGATE_CODES[name] for name in ("atan", "fast_sigmoid", "sigmoid", "triangle", "rectangle")
)
