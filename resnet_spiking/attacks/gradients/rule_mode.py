"""Modes that replace a neuron's whole backward pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from neurons import Neuron, backward_rule
from neurons.replay import Replay
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
        found = spiking_neurons(model)
        refuse_obstacles(self.name, found)
        with backward_rule(found, self.rule):
            yield


def refuse_obstacles(mode: str, neurons: list[Neuron]) -> None:
    """Raise ``UserError`` when one of ``neurons`` cannot be replayed, with the reason."""
    for neuron in neurons:
        if obstacle := neuron.replay_obstacle():
            raise UserError(
                f"gradient mode {mode!r} does not apply to {neuron.name}: {obstacle}; "
                "use a surrogate such as 'atan:2', which works for every neuron"
            )
