"""Whether this processor multiplies bf16 matrices in hardware of its own."""

from __future__ import annotations

from functools import cache

import torch


@cache
def has_matrix_units() -> bool:
    """Say whether the CPU has AMX for bf16; one without emulates bf16 products at a fraction of the speed of fp32."""
    # torch has no public question for this before torch.cpu.get_capabilities (2.13).
    ask = getattr(torch.cpu, "get_capabilities", None)
    return bool(ask().get("amx_bf16", False)) if ask else bool(torch.cpu._is_amx_tile_supported())
