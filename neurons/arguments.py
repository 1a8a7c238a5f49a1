"""What this library's commands share: one line on bad arguments, silence when nobody reads on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line on stderr, without the usage, and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    return _whole(text, lambda number: number >= 1, "of at least 1")


def seed(text: str) -> int:
    """A whole number from 0 to 2⁶³ − 1, what torch's generators take.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    return _whole(text, lambda number: 0 <= number < 2**63, "from 0 to 2**63 - 1")


def _whole(text: str, fits: Callable[[int], bool], range_: str) -> int:
    wrong = argparse.ArgumentTypeError(f"must be a whole number {range_}, not {text!r}")
    try:
        number = int(text)
    except ValueError:
        raise wrong from None
    if not fits(number):
        raise wrong
    return number


def run(main: Callable[[], int]) -> NoReturn:
    """End the process with the status of `main`; with 1 and in silence when the reader of its output has gone."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more as it ends, and that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    raise SystemExit(status)
