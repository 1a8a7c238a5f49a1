"""Every figure by name, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.figures import (
    accuracy,
    adversarial,
    attacked,
    confusion,
    scaling,
    spike_rate,
    sweeps,
    traces,
    training,
    transfer,
)
from resnet_spiking.reports.figures.figure import Figure

FIGURES: dict[str, Callable[[Digest], Figure]] = {
    "accuracy": accuracy.draw,
    "spike-rate": spike_rate.draw,
    "sweeps": sweeps.draw,
    "robustness": attacked.draw,
    "adversarial": adversarial.draw,
    "training": training.draw,
    "transfer": transfer.draw,
    "traces": traces.draw,
    "confusion": confusion.draw,
    "scaling": scaling.draw,
}
