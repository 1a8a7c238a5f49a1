"""When APGD looks back at how it got on."""

from __future__ import annotations


def checkpoints(steps: int) -> dict[int, int]:
    """Return each checkpoint below ``steps`` with the number of steps since the one before.

    The first stands after 22 % of the steps; intervals then shrink by 3 % of them down to 6 %, at least 1.

    Source: Croce and Hein, ICML 2020, section 3, with AutoAttack's rounding down.
    """
    interval = due = max(int(0.22 * steps), 1)
    found = {}
    while due < steps:
        found[due] = interval
        interval = max(interval - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
        due += interval
    return found
