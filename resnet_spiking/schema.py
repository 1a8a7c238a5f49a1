"""What a record of JSON must look like: a shape to declare, and a check that names the field that is otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from resnet_spiking.errors import UserError


def share(value: object) -> str | None:
    """Say what is wrong with an accuracy, which lies in [0, 1]; None if nothing is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return "must be a number in [0, 1]"
    return None


def interval(value: object) -> str | None:
    """Say what is wrong with an interval of accuracies, which has two ends in [0, 1]; None if nothing is."""
    whole = isinstance(value, list) and len(value) == 2 and not any(map(share, value))
    return None if whole else "must be two numbers in [0, 1]"


def number(value: object) -> str | None:
    """Say what is wrong with a number; None if nothing is. NaN is one: a diverged loss is a result."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "must be a number"
    # JSON's whole numbers have no end, a float's arithmetic has.
    return "must be a number" if isinstance(value, int) and abs(value) > sys.float_info.max else None


def whole(value: object) -> str | None:
    """Say what is wrong with a whole number; None if nothing is."""
    return "must be a whole number" if isinstance(value, bool) or not isinstance(value, int) else None


def count(value: object) -> str | None:
    """Say what is wrong with a whole number from 0; None if nothing is."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return None if known else "must be a whole number, 0 or more"


def positive(value: object) -> str | None:
    """Say what is wrong with a whole number from 1; None if nothing is."""
    return "must be a whole number, 1 or more" if count(value) or value == 0 else None


def text(value: object) -> str | None:
    """Say what is wrong with a text; None if nothing is."""
    return None if isinstance(value, str) else "must be a text"


def flag(value: object) -> str | None:
    """Say what is wrong with a yes or no; None if nothing is."""
    return None if isinstance(value, bool) else "must be true or false"


def nullable(inner: Check) -> Check:
    """Return the check that null passes too."""
    return lambda value: None if value is None else inner(value)


Check = Callable[[object], "str | None"]
Shape = type | Check | dict[str, Any] | list[Any]
"""A type, a check, a list of one shape, or a mapping of field to shape: ``name?`` may be absent, ``*`` is every field
that has no name of its own there."""


def check(value: object, shape: Shape, where: str, *, advice: str, field: str = "") -> None:
    """Raise ``UserError`` naming ``where``, the field that does not have its shape, and the ``advice``."""
    problem = None
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            problem = "must be an object"
        else:
            for name in shape:
                if name not in value and name != "*" and not name.endswith("?"):
                    path = f"{field}.{name}" if field else name
                    raise UserError(f"{where}: the field {path!r} is missing; {advice}")
            for name, item in value.items():
                inner = shape.get(name) or shape.get(f"{name}?") or shape.get("*")
                if inner is not None:
                    check(item, inner, where, advice=advice, field=f"{field}.{name}" if field else name)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            problem = "must be a list"
        else:
            for index, item in enumerate(value):
                check(item, shape[0], where, advice=advice, field=f"{field}[{index}]")
    elif isinstance(shape, type):
        problem = None if isinstance(value, shape) else "must be a text" if shape is str else "must be an object"
    else:
        problem = shape(value)
    if problem:
        raise UserError(f"{where}: the field {field or 'itself'!r} {problem}, not {str(value)[:40]!r}; {advice}")
