"""HTML and SVG elements as text, escaped."""

from __future__ import annotations

import html


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: object) -> Markup:
    """Return ``<name …>content</name>``.

    Content is escaped unless it is ``Markup``. In attribute names ``_`` becomes ``-`` and a trailing one is
    dropped (``class_``); True writes a bare attribute, None and False none.
    """
    shown = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        plain = key.removesuffix("_").replace("_", "-")
        shown.append(f" {plain}" if value is True else f' {plain}="{html.escape(number(value), quote=True)}"')
    inner = "".join(part if isinstance(part, Markup) else html.escape(part, quote=False) for part in content)
    head = name + "".join(shown)
    return Markup(f"<{head}>" if name in _VOID else f"<{head}/>" if name in _SELF_CLOSING and not inner else
                  f"<{head}>{inner}</{name}>")  # fmt: skip


def join(*parts: str) -> Markup:
    """Return the parts as one markup; those that are plain text are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part, quote=False) for part in parts))


def number(value: object) -> str:
    """Write coordinates with at most two decimals, which keeps pages small."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


_VOID = {"meta", "img", "br", "input", "link"}
_SELF_CLOSING = {"path", "line", "rect", "circle", "image"}
