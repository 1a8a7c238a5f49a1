"""The attacks by name: what each one is and where it lives. Imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from resnet_spiking.errors import check_known

Kind = Literal["white-box", "black-box", "minimum-norm"]
Norm = Literal["linf", "l2"]
Order = Literal["ascending", "descending"]

NORMS: tuple[Norm, ...] = ("linf", "l2")
ORDERS: tuple[Order, ...] = ("ascending", "descending")
RADII: dict[str, tuple[str, ...]] = {
    "linf": ("0.25/255", "0.5/255", "1/255", "2/255", "4/255", "8/255"),
    "l2": ("0.125", "0.25", "0.5", "1", "2"),
}
"""Where an attack is measured if nobody names radii, by norm."""


@dataclass(frozen=True)
class AttackEntry:
    """A row of the table.

    ``function``: ``module:function``; ``norms`` it works in; ``preset``: keyword arguments that make the name;
    ``course``: the ``module:function`` that makes it ready for ``descend``, if it can share a batch among radii.
    """

    name: str
    function: str
    norms: tuple[str, ...]
    kind: Kind
    summary: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    course: str = ""

    def load(self) -> Callable[..., Any]:
        """Import and return the function."""
        return _load(self.function)

    def load_course(self) -> Callable[..., Any]:
        """Import and return the function that makes the course."""
        return _load(self.course)


def _load(place: str) -> Callable[..., Any]:
    module, function = place.split(":")
    return getattr(importlib.import_module(module), function)


_OWN = "resnet_spiking.attacks."
_TA = _OWN + "classic."
_BOTH = NORMS


def _apgd(
    name: str, summary: str, preset: Mapping[str, Any], function: str = "apgd", course: str = "untargeted"
) -> AttackEntry:
    module = _OWN + "apgd:"
    return AttackEntry(name, module + function, _BOTH, "white-box", summary, preset, module + course)


ATTACKS: dict[str, AttackEntry] = {
    entry.name: entry
    for entry in (
        AttackEntry("noise", _OWN + "noise:noise", _BOTH, "black-box", "worst of n uniform and n corner draws"),
        AttackEntry("fgsm", _OWN + "fgsm:fgsm", _BOTH, "white-box", "one step of size eps"),
        AttackEntry("pgd", _OWN + "pgd:pgd", _BOTH, "white-box", "projected gradient ascent from a random start"),
        _apgd("apgd-ce", "APGD on cross-entropy", {"loss": "ce"}),
        _apgd("apgd-margin", "APGD on the margin", {"loss": "margin"}),
        _apgd("apgd-dlr", "APGD on the DLR loss", {"loss": "dlr"}),
        _apgd("apgd-t", "APGD at each of the best other classes", {}, "apgd_targeted", "targeted"),
        AttackEntry("sapgd", _OWN + "sapgd:sapgd", _BOTH, "white-box", "SA-PGD; meant for the gradient mode assg"),
        AttackEntry("square", _OWN + "square:square", _BOTH, "black-box", "random square search on the margin"),
        AttackEntry("transfer", _OWN + "transfer:transfer", _BOTH, "black-box", "crafted on another model"),
        AttackEntry("fmn", _OWN + "fmn:fmn", _BOTH, "minimum-norm", "fast minimum norm"),
        AttackEntry("ddn", _OWN + "ddn:ddn", ("l2",), "minimum-norm", "decoupled direction and norm"),
        AttackEntry("deepfool", _OWN + "deepfool:deepfool", _BOTH, "minimum-norm", "steps to the nearest border"),
        AttackEntry("ta-fgsm", _TA + "attacks:fgsm", ("linf",), "white-box", "torchattacks' FGSM"),
        AttackEntry("ta-pgd", _TA + "attacks:pgd", _BOTH, "white-box", "torchattacks' PGD"),
        AttackEntry("ta-eotpgd", _TA + "attacks:eotpgd", ("linf",), "white-box", "torchattacks' EOT-PGD"),
        AttackEntry("ta-apgd", _TA + "attacks:apgd", _BOTH, "white-box", "torchattacks' APGD, 100 iterations"),
        AttackEntry("ta-square", _TA + "attacks:square", _BOTH, "black-box", "torchattacks' Square, 5,000 queries"),
        AttackEntry("ta-autoattack", _TA + "autoattack:autoattack", _BOTH, "white-box", "official AutoAttack"),
        AttackEntry("ta-deepfool", _TA + "minimum:deepfool", ("l2",), "minimum-norm", "torchattacks' DeepFool"),
        AttackEntry("ta-cw", _TA + "minimum:cw", ("l2",), "minimum-norm", "torchattacks' Carlini-Wagner"),
    )
}


def find_attack(name: str) -> AttackEntry:
    """Return the row of that name.

    Raises ``UserError``, with the nearest name, for an unknown one.
    """
    check_known("attack", name, ATTACKS)
    return ATTACKS[name]
