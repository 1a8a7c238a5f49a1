"""What the records of a results folder must look like: declared here, checked when they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resnet_spiking.errors import UserError


def share(value: object) -> str | None:
    """Say what is wrong with an accuracy, which lies in [0, 1]; None if nothing is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return "must be a number in [0, 1]"
    return None


def number(value: object) -> str | None:
    """Say what is wrong with a number; None if nothing is. NaN is one: a diverged loss is a result."""
    return "must be a number" if isinstance(value, bool) or not isinstance(value, (int, float)) else None


def count(value: object) -> str | None:
    """Say what is wrong with a whole number from 0; None if nothing is."""
    return "must be a whole number, 0 or more" if isinstance(value, bool) or not isinstance(value, int) or value < 0 \
        else None  # fmt: skip


Check = Callable[[object], "str | None"]
Shape = type | Check | dict[str, Any] | list[Any]
"""A type, a check, a mapping of field to shape (``name?`` may be absent or null), or a list of one shape."""

ROW: dict[str, Shape] = {
    "key": str,
    "run": str,
    "variant": str,
    "mode": str,
    "dataset": str,
    "backbone": str,
    "weights": str,
    "freeze_depth": count,
    "image_size": count,
    "epochs": str,
    "train": str,
    "spiking": str,
    "seed": count,
    "num_steps": count,
    "encoding": str,
    "config": dict,
    "test": {"accuracy": share, "loss": number, "spike_rates": [number], "images": count, "precision": str},
    "default?": {"run": str, "accuracy": share},
    "operations?": dict,
    "seconds": dict,
    "devices?": [str],
    "hashes": {"data": str},
    "evidence?": dict,
    "warnings": [str],
    "provenance": dict,
}

CURVE: dict[str, Shape] = {
    "key": str,
    "phase": str,
    "epoch": count,
    "train_loss": number,
    "train_accuracy": share,
    "test_accuracy?": share,
}

ATTACK: dict[str, Shape] = {
    "format": count,
    "norm": str,
    "eps": [number],
    "eps_labels": [str],
    "bundle": str,
    "samples": count,
    "dataset": str,
    "models": [
        {
            "name": str,
            "variant": str,
            "clean": {"accuracy": share, "interval": [share]},
            "robust": [{"eps": number, "accuracy": share, "interval": [share], "attacks": dict}],
            "minimum_norm?": dict,
            "mcnemar?": [{"eps": number, "better": count, "worse": count, "p": share}],
            "checks": [{"name": str, "title": str, "threshold": str}],
            "unreliable": [str],
            "devices?": [str],
        }
    ],
    "command": str,
}

SCALING = ("axis", "value", "contender", "milliseconds", "mebibytes")


def check(value: object, shape: Shape, where: str, field: str = "") -> None:
    """Raise ``UserError`` naming ``where`` and the field that does not have its shape."""
    problem = None
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            problem = "must be an object"
        else:
            for name, inner in shape.items():
                plain = name.removesuffix("?")
                path = f"{field}.{plain}" if field else plain
                if value.get(plain) is None:
                    if not name.endswith("?"):
                        raise UserError(f"{where}: the field {path!r} is missing; publish the results again")
                else:
                    check(value[plain], inner, where, path)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            problem = "must be a list"
        else:
            for index, item in enumerate(value):
                check(item, shape[0], where, f"{field}[{index}]")
    elif isinstance(shape, type):
        problem = None if isinstance(value, shape) else "must be a text" if shape is str else "must be an object"
    else:
        problem = shape(value)
    if problem:
        raise UserError(f"{where}: the field {field or 'itself'!r} {problem}, not {str(value)[:40]!r}")
