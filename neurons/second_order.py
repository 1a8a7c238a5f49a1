"""Derivatives of derivatives: what a backward pass does when it is asked for a graph of its own (`create_graph=True`).

A kernel's backward pass has no graph. Where the loss is linear in what it returned, `once_differentiable` of torch
returns its gradients as constants, and second derivatives that pass through the kernel would be missing without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def wanted() -> bool:
    """Whether the backward pass that calls this is to be differentiated."""
    return torch.is_grad_enabled()


def gradients_with_graph(
    run: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """d/dx sum_k <outputs_k, grads_k> of outputs = run(*inputs), each with a graph to `inputs` and `grads`.

    Args:
        run: what a kernel computes, in operations that torch can differentiate.
        inputs: its arguments, those of a node of the graph.
        needed: of which inputs a gradient is needed; the others get None.
        grads: one per output, None for zeros.
    """
    # One input may come from another, which the derivative of this node alone must not follow.
    inputs = [value if value is None else value.view_as(value) for value in inputs]
    outputs = run(*inputs)
    pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if grad is not None and out.requires_grad]
    sources = [source for source, need in zip(inputs, needed, strict=True) if need and source is not None]
    if not pairs or not sources:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], sources, [grad for _, grad in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if need and source is not None else None for source, need in zip(inputs, needed, strict=True)]


def refuse_if_wanted(what: str, instead: str) -> None:
    """Say that there are none, from a backward pass that cannot be differentiated.

    Raises:
        RuntimeError: it was asked for with `create_graph=True`.
    """
    if wanted():
        raise RuntimeError(f"{what} has no second derivatives (create_graph=True); {instead}")
