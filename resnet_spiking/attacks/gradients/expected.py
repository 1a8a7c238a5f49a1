"""The deterministic relaxation of a stochastic head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from neurons import Neuron
from neurons.replay import Replay, ReplayError
from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.attacks.gradients.neurons import spiking_neurons
from resnet_spiking.attacks.gradients.rule_mode import ruled
from resnet_spiking.attacks.gradients.surrogate import SurrogateMode
from resnet_spiking.network.encoding import expected_rate
from resnet_spiking.network.head import SpikingHead


class ExpectedRate(GradientMode):
    """Whatever is drawn is replaced by its mean, in the forward pass as well: one smooth pass instead of many draws.

    Rate encoding becomes the rate ``p`` at every step; ParaLIF-SB and -TRB return ``n(V)``, ParaLIF-GS
    ``P(2 V + logistic noise > 0) = sigmoid(2 V)``, each with its exact derivative through time. Neurons that draw
    nothing keep their step, differentiated by a surrogate. The logits are the expected ones for a head that is linear
    in what is drawn, as one hidden layer of ParaLIF is; otherwise they approximate them.

    Args: surrogate ``family`` and ``slope`` for the neurons that draw nothing.

    Raises ``TypeError`` or ``ValueError`` for an unknown family or a slope that is not positive.
    """

    name = "expected"
    exact_forward = False

    def __init__(self, family: str = "atan", slope: float = 2.0) -> None:
        self._steps = SurrogateMode(family, slope)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        drawing = [neuron for neuron in spiking_neurons(model) if neuron.stochastic]
        heads = [module for module in model.modules() if isinstance(module, SpikingHead)]
        before = [head.rate_encode for head in heads]
        with ExitStack() as stack:
            stack.enter_context(self._steps.applied(model))
            stack.enter_context(ruled(self.name, drawing, _mean))
            try:
                for head in heads:
                    head.rate_encode = expected_rate
                yield
            finally:
                for head, encode in zip(heads, before, strict=True):
                    head.rate_encode = encode


def _mean(neuron: Neuron, replay: Replay) -> Tensor:
    probability = replay.probability()
    if probability is None:
        raise ReplayError(f"{neuron.name} does not tell the mean of what it draws")
    return probability
