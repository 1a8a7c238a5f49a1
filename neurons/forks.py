"""Whether this process was forked from one that had imported `neurons`: such a child has none of its parent's threads.

The standard library alone: `neurons` imports it first, so that a fork is known of whenever the kernels are.
"""

from __future__ import annotations

import os

_forked = False


def is_fork() -> bool:
    """Say whether `neurons` was imported before this process began."""
    return _forked


def _remember() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)
