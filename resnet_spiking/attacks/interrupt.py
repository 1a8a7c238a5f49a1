"""Stopping a long evaluation in the middle of an attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from resnet_spiking.errors import Interrupted
from resnet_spiking.network.classifier import Classifier


@contextmanager
def stoppable(should_stop: Callable[[], bool], *models: nn.Module) -> Iterator[None]:
    """Raise ``Interrupted`` from the next forward pass of a model once ``should_stop()``: no attack need know of it.

    What is lost is the chunk of images in work, which is attacked again on resuming.
    """

    def ask(*_: object) -> None:
        if should_stop():
            raise Interrupted

    # A target runs a classifier part by part, and never its own forward.
    watched = [model.backbone if isinstance(model, Classifier) else model for model in models]
    handles = [module.register_forward_pre_hook(ask) for module in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
