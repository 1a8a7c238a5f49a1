"""One surrogate for every neuron."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from neurons import surrogate_override
from neurons.surrogate import make_surrogate
from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.attacks.gradients.names import GRID, with_value
from resnet_spiking.attacks.gradients.neurons import spiking_neurons


class SurrogateMode(GradientMode):
    """Backpropagation through time with the derivative ``g(u / V_th) / V_th``, ``u = V - V_th``, at every step.

    ``g`` is a family of ``neurons.surrogate`` at a slope; ``ste`` is straight-through (g = 1, whatever the
    slope and the threshold). Measuring u in thresholds makes one sharpness mean the same for neurons of different
    thresholds (a layer's mean threshold, when it learned several); where a neuron compares something else than its
    membrane (squashed, a rise, a draw) u is taken as it is. Resets and decays are differentiated as each neuron was
    configured.

    The choice of surrogate is a hyper-parameter of the attack: Wang et al., arXiv 2512.22522;
    Özdenizci and Legenstein, "Adversarially robust spiking neural networks through conversion", TMLR 2024.

    Raises ``TypeError`` or ``ValueError`` for an unknown family or a slope that is not positive.
    """

    def __init__(self, family: str = "atan", slope: float = 2.0) -> None:
        self.surrogate = make_surrogate(family, slope)
        self.name = family if family == "ste" else with_value(family, slope)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        family, slope = self.surrogate
        with ExitStack() as stack:
            for neuron in spiking_neurons(model):
                stack.enter_context(surrogate_override(neuron, family, slope / neuron.membrane_threshold()))
            yield


def default_grid() -> list[SurrogateMode]:
    """Return the surrogates that a bundle attacks every head with: ``names.GRID``."""
    pairs = [text.partition(":")[::2] for text in GRID]
    return [SurrogateMode(family, float(slope or 1)) for family, slope in pairs]
