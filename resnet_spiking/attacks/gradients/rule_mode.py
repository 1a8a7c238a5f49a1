"""Modes that replace a neuron's whole backward pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from neurons import Neuron, backward_rule
from neurons.replay import Replay, ReplayError
from neurons.rule import Rule
from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.attacks.gradients.neurons import spiking_neurons
from resnet_spiking.errors import UserError


class RuleMode(GradientMode):
    """A mode given by its rule: from a neuron's finished run to its spikes with a gradient."""

    @abstractmethod
    def rule(self, neuron: Neuron, replay: Replay) -> Tensor:
        """Return the spikes ``[T, B, N]`` of the run with the mode's gradient."""

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        with ruled(self.name, spiking_neurons(model), self.rule):
            yield


@contextmanager
def ruled(mode: str, neurons: list[Neuron], rule: Rule) -> Iterator[None]:
    """Have ``rule`` in force for ``neurons`` inside the block.

    Raises ``UserError`` when one of them cannot be replayed, with the reason.
    """
    try:
        with backward_rule(neurons, rule):
            yield
    except ReplayError as error:
        raise UserError(
            f"gradient mode {mode!r} does not apply: {error}; a surrogate such as 'atan:2' does for any neuron"
        ) from error
