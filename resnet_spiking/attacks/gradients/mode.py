"""The contract of a gradient mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from torch import Tensor, nn


class GradientMode(ABC):
    """How an attack differentiates through the neurons of a model, whatever they were trained with.

    A mode changes the backward pass only: under it every forward returns the spikes that the model
    returns without it, bit for bit (modes that relax the forward say so with ``exact_forward = False``,
    and an attack then never takes success from logits computed under them).

    A mode may keep state per image over the steps of one attack (an adaptive sharpness does): ``start``
    forgets it, ``select`` keeps the images that the attack goes on with.
    """

    name: str
    exact_forward: bool = True

    @abstractmethod
    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Be in force for the graphs that are built inside the block.

        Raises ``UserError`` when a neuron of the model cannot be differentiated so, with the reason.
        """

    @property
    def per_image(self) -> bool:
        """Whether the mode keeps state per image: it would take one batch's images for another's."""
        return type(self).select is not GradientMode.select

    def start(self) -> None:  # noqa: B027
        """Forget everything: a new attack begins."""

    def select(self, kept: Tensor) -> None:  # noqa: B027
        """Keep the images at the indices ``kept`` of the present batch, in that order."""


class OwnSurrogate(GradientMode):
    """The surrogate that each layer was trained with: what other studies attack with."""

    name = "own"

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        from contextlib import nullcontext

        return nullcontext()
