"""The exception that a command turns into a single line and exit code 2, and the one that says it has stopped."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right: what was wrong, what is accepted, what to do."""


class Interrupted(Exception):
    """Work was asked to stop and has saved its state: the same call goes on, with ``resume=True`` if it has ``begun``.

    A run that replaces another one has not while Default is trained: what it replaces is still there.
    """

    def __init__(self, message: str = "", *, begun: bool = True) -> None:
        super().__init__(message)
        self.begun = begun


def nearest(word: str, known: list[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known word, or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def check_known(what: str, value: object, known: Iterable[str]) -> None:
    """Raise ``UserError``, with the nearest name, unless ``value`` is one of the names in ``known``."""
    listed = list(dict.fromkeys(known))
    if value not in listed:
        raise UserError(f"{what} {value!r} is unknown{nearest(str(value), listed)}; choose from: {', '.join(listed)}")
