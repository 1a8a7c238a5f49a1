"""Stopping a long evaluation in the middle of an attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from resnet_spiking.network.classifier import Classifier
from resnet_spiking.training.loop import Interrupted


@contextmanager
def stoppable(model: nn.Module, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Raise ``Interrupted`` from the model's next forward pass once ``should_stop()``: no attack need know of it.

    What is lost is the chunk of images in work, which is attacked again on resuming.
    """

    def ask(*_: object) -> None:
        if should_stop():
            raise Interrupted

    # A target runs a classifier part by part, and never its own forward.
    handle = (model.backbone if isinstance(model, Classifier) else model).register_forward_pre_hook(ask)
    try:
        yield
    finally:
        handle.remove()
