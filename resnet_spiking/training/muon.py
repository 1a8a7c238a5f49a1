"""Muon: orthogonalised momentum for convolution kernels and other matrices, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = {torch.float32: (5,), torch.float64: (5,), torch.bfloat16: (3, 2)}
"""How many iterations share a Gram matrix: in bf16 it forgets what is small, and is made again before that matters."""
MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """Groups with ``orthogonal=True`` take orthogonalised momentum, the others AdamW's steps.

    A weight of shape ``[m, ...]`` is read as a matrix W of m rows. With its gradient g, learning rate lr and weight
    decay w:

        b <- mu b + (1 - mu) g,   u = orthogonalised((1 - mu) g + mu b)
        W <- (1 - lr w) W - lr sqrt(max(m, n)) u

    so that the entries of an update have a root mean square of about lr, as in AdamW's first steps: ``lr`` and
    ``weight_decay`` mean the same for both.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale after Liu et al.,
    "Muon is scalable for LLM training", arXiv:2502.16982. ``torch.optim.Muon`` (2.9 and later) takes matrices only, and
    iterates on the whole matrix in bf16, which is slow on processors without it. Here ``precision`` is that of the
    iteration alone; weights and momentum keep theirs. ``groups``: as for ``torch.optim.AdamW``, with ``orthogonal``.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, precision: torch.dtype | None = None) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], lr=lr, fused=True)
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Do one step, as ``torch.optim.Optimizer.step``. Gradients of orthogonal groups are used up."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            if group["orthogonal"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._turn(weight, group["lr"], group["weight_decay"])
                        # AdamW passes over what has no gradient.
                        weight.grad = None
        super().step()
        return loss

    def _turn(self, weight: Tensor, lr: float, weight_decay: float) -> None:
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if not state:
            # AdamW looks for "step" in every state that it loads.
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(gradient))
        state["step"] += 1
        mean: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(mean, MOMENTUM).flatten(1)
        weight.mul_(1 - lr * weight_decay)
        turned = orthogonalised(ahead, self.precision)
        weight.add_(turned.view_as(weight), alpha=-lr * math.sqrt(max(ahead.shape)))


def orthogonalised(matrix: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """Return a matrix with the singular vectors of ``matrix [m, n]`` and nearly all its singular values about 1.

    With X_0 = G / |G|_F, five times

        X <- a X + b (X X^T) X + c (X X^T)^2 X

    which takes a singular value s to a s + b s^3 + c s^5: those above a hundredth of |G|_F end between 0.68 and 1.14.
    Every step multiplies by a polynomial of A = X_0 X_0^T, so the polynomials are multiplied first, as matrices of the
    shorter side's size, and G once, by their product: for a kernel ``[512, 512, 3, 3]`` a fifth of the work.

    ``precision``: of the products, that of ``matrix`` when it is None. In bf16 A is made again of X_3: what A loses of
    a direction in which G is small, three steps have not yet made large, and the error stays that of iterating on X.

    Raises ``ValueError`` for another precision than float32, float64 and bfloat16: float16 cannot hold A's entries.

    Source: Jordan et al., as for ``Muon``, whose coefficients a, b, c these are.
    """
    if (precision or matrix.dtype) not in ITERATIONS:
        raise ValueError(f"orthogonalised computes in float32, float64 or bfloat16, not {precision or matrix.dtype}")
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.t(), precision).t()
    scaled = matrix / matrix.norm().clamp_min(torch.finfo(matrix.dtype).tiny)
    turned = scaled.to(precision or matrix.dtype)
    for iterations in ITERATIONS[turned.dtype]:
        turned = _polynomial(turned @ turned.t(), iterations) @ turned
    return turned.to(matrix.dtype)


def _polynomial(gram: Tensor, iterations: int) -> Tensor:
    """Return what ``iterations`` steps multiply an X of this Gram matrix X X^T by."""
    a, b, c = COEFFICIENTS
    product = None
    for iteration in range(iterations):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if iteration + 1 < iterations:
            gram = factor @ gram @ factor
    assert product is not None
    return product
