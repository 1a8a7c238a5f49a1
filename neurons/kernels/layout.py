"""How sequences lie in memory when a kernel walks through their steps."""

from __future__ import annotations

from torch import Tensor


def in_rows(sequence: Tensor) -> tuple[Tensor, int]:
    """The sequence [T, ...] in memory, and the elements from one step to the next: 0 when all steps are one."""
    if sequence.stride(0) == 0 or sequence.shape[0] == 1:
        return sequence[0].contiguous(), 0
    return sequence.contiguous(), sequence.numel() // sequence.shape[0]
