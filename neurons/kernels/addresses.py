"""What compiled kernels need beyond numba's own language: arrays at an address, and a counter that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic


def _pointer_to(_context: Any, address: Any, like: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: tuple[Any, ...]) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(address, like), generate


def _take_one(_context: Any, counter: Any) -> tuple[Any, Any]:
    def generate(_: Any, builder: Any, signature: Any, arguments: tuple[Any, ...]) -> Any:
        place = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate


_pointer: Any = intrinsic(_pointer_to)

take: Any = intrinsic(_take_one)
"""What the int64 at a pointer holds, while it becomes one more, in one step for all threads."""


@njit(error_model="numpy")
def array_at(address: int, size: int, like: float) -> Any:
    """The `size` numbers of the type of `like` at `address`; that they exist and stay is up to the caller."""
    return carray(_pointer(address, like), size)
