"""Rate gradient approximation (RGA)."""

from __future__ import annotations

from torch import Tensor

from neurons import Neuron
from neurons.replay import Replay
from resnet_spiking.attacks.gradients.names import with_value
from resnet_spiking.attacks.gradients.rule_mode import RuleMode


class RateGradient(RuleMode):
    """A layer is differentiated as a leaky neuron's rate, piecewise linear in its mean current.

    With incoming gradient ``G[t]``, drive ``d`` (the current after the synapse), its mean in thresholds
    ``x = mean_t d[t] / V_th`` and the decay ``b`` of the membrane:

        dL/dd[t] = mean_t'(G[t']) f(x) / V_th
        f(x) = (1 - gamma + gamma b)/(b + 1) for 1 - b <= x <= 2;  gamma for 0 <= x < 1 - b;  0 elsewhere

    1 - b is the mean current below which a neuron never reaches its threshold. The rule is one of leaky neurons with a
    reset. For ParaLIF, which has none, it reads the same decay and threshold; where spikes are drawn or a rise
    is compared V_th is 1: it tells where the drive is in reach, so never judge ParaLIF by it alone.

    Args: ``gamma`` in [0, 1], the slope below reach.

    Source: Bu et al., "Rate gradient approximation attack threats deep spiking neural networks", CVPR 2023.

    Raises ``ValueError`` for gamma out of range.
    """

    def __init__(self, gamma: float = 0.2) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], not {gamma:g}")
        self.gamma = gamma
        self.name = "rga" if gamma == 0.2 else with_value("rga", gamma)

    def rule(self, neuron: Neuron, replay: Replay) -> Tensor:
        x = replay.drive.mean(0) / replay.threshold
        at, b = x.detach(), replay.beta
        reached = ((at >= 1 - b) & (at <= 2)).to(x.dtype) * (1 - self.gamma + self.gamma * b) / (b + 1)
        below = ((at >= 0) & (at < 1 - b)).to(x.dtype) * self.gamma
        return replay.attach((reached + below) * x)
