"""Learnable decays and thresholds: a parameter that is the value itself, kept in its interval when it is used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(value: Tensor, low: float, high: float) -> Tensor:
        return value.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        value, ctx.low, ctx.high = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (value,) = ctx.saved_tensors
        grad = grads[0]
        # Descent moves against the gradient: a value that left its interval may come back, and never drifts further.
        outwards = ((value < ctx.low) & (grad > 0)) | ((value > ctx.high) & (grad < 0))
        return grad.masked_fill(outwards, 0), None, None


def bounded(value: Tensor, low: float, high: float) -> Tensor:
    """`value` clamped to [low, high], with a gradient that lets an optimiser come back from outside.

    No sigmoid in between: inside the interval the parameter is the decay or threshold itself, so that it starts
    exactly at the value asked for and 0 and 1 can be reached.
    """
    return _Clamp.apply(value, low, high)
