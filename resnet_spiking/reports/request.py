"""What a README block or ``--table`` asks for: a kind, options, and settings that its rows must have."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from resnet_spiking.config import BRANCH_ONLY
from resnet_spiking.errors import UserError, nearest
from resnet_spiking.reports.groups import Group, plain, setting


@dataclass(frozen=True)
class Request:
    """``text`` as written; ``kind``; ``values``: every ``name=value`` with the value split at commas."""

    text: str
    kind: str
    values: dict[str, tuple[str, ...]]

    def option(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        return self.values.get(name, default)


def parse_request(text: str, kinds: dict[str, frozenset[str]]) -> Request:
    """Read ``KIND name=value[,value…] …``, quoted like a shell's words.

    Args:
        text: for instance ``accuracy dataset=cifar10 variant=default,lif columns=variant,n,accuracy``.
        kinds: accepted kinds.

    Raises:
        UserError: malformed, or an unknown kind.
    """
    try:
        kind, *words = shlex.split(text)
    except ValueError:
        raise UserError(f"the request {text!r} is malformed; give KIND name=value …") from None
    if kind not in kinds:
        raise UserError(
            f"the request {text!r} asks for {kind!r}{nearest(kind, list(kinds))}; choose from: {', '.join(kinds)}"
        )
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value or name in values:
            raise UserError(f"the request {text!r} has {word!r}; give each setting once, as name=value[,value…]")
        # Names such as <5,5> hold a comma of their own.
        values[name] = (value,) if value.startswith("<") or name == "fill" else tuple(value.split(","))
    return Request(text, kind, values)


def choose(groups: Sequence[Group], request: Request, options: frozenset[str]) -> list[Group]:
    """Return the groups that have every setting the request names; ``*`` and ``?`` match as in file names.

    Default has no settings of the spiking branch, so ``train=head`` keeps Default; ``variant=…`` decides about it. Of
    ``epochs=<5,5>`` Default has the first half.
    ``hidden=512,256`` is a head of these two layers where some row has one, and else of either width.

    Raises:
        UserError: a setting that no row has.
    """
    known = sorted({name for group in groups for name in group.settings})
    for name in request.values:
        if name not in options and groups and name not in known:
            raise UserError(
                f"the request {request.text!r} names {name!r}{nearest(name, [*options, *known])}; "
                f"settings: {', '.join(known)}"
            )
    wanted = {name: _values(groups, name, values) for name, values in request.values.items() if name not in options}
    return [group for group in groups if all(_has(group, name, values) for name, values in wanted.items())]


def choose_labels(labels: Sequence[str], request: Request) -> list[str]:
    """Return the labels of attack results that ``result=…`` names, all without it; ``*`` and ``?`` as in ``choose``.

    Raises:
        UserError: a pattern that no label fits.
    """
    patterns = request.option("result", ("*",))
    for pattern in patterns:
        if labels and not any(fits(label, pattern) for label in labels):
            raise UserError(
                f"the request {request.text!r}: no attack result {pattern!r}{nearest(pattern, list(labels))}; "
                f"there is {', '.join(labels)}"
            )
    return [label for label in labels if any(fits(label, pattern) for pattern in patterns)]


def fits(text: str, pattern: str) -> bool:
    """Say whether a text is the pattern itself, or matches it; of a name such as ``a[1]`` only the former holds."""
    return text == pattern or fnmatchcase(text, pattern)


def _values(groups: Sequence[Group], name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Put together again what was split at commas, where the setting is a list and some group has this very list."""
    whole = ",".join(values)
    lists = [plain(group[name]) for group in groups if isinstance(group[name], list)]
    return (whole,) if any(fits(text, whole) for text in lists) else values


def _has(group: Group, name: str, values: tuple[str, ...]) -> bool:
    value = group[name]
    if group.is_default and name in BRANCH_ONLY:
        return True
    if group.is_default and name == "epochs":
        return any(_begins(str(value), pattern) for pattern in values)
    # `none` is how study files and command lines write a setting that is off; weights have their name in any case.
    texts = {"none" if value is None else plain(value), plain(value), plain(setting(group.rows[0], name))}
    return any(fits(text, pattern) for text in texts for pattern in values)


def _begins(epochs: str, pattern: str) -> bool:
    """Say whether Default's ``<X>`` is what ``<X>`` or the first half of ``<X,Y>`` asks for."""
    first, comma, _ = pattern.partition(",")
    return fits(epochs, first + ">" * bool(comma))
