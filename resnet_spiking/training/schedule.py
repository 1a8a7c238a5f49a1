"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from resnet_spiking.config import CHOICES
from resnet_spiking.errors import check_known


def rate_at(step: int, steps: int, schedule: str, warmup: float = 0.1) -> float:
    """Return the factor on the peak learning rate at ``step`` of ``steps``.

    ``cosine``: linear warm-up over the first ``warmup`` share, then half a cosine down to 0.
    ``constant``: 1.

    Raises ``UserError`` for another schedule.
    """
    check_known("schedule", schedule, CHOICES["schedule"])
    if schedule == "constant":
        return 1.0
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))
