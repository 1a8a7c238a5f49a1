"""HART: rates between layers, timing within a step."""

from __future__ import annotations

from torch import Tensor

from neurons import Neuron
from neurons.replay import Replay
from neurons.surrogate import derivative, make_surrogate
from resnet_spiking.attacks.gradients.names import with_value
from resnet_spiking.attacks.gradients.rule_mode import RuleMode


class Hart(RuleMode):
    """Incoming gradients are averaged over time; each step keeps its surrogate and forgets the steps before.

    With incoming gradient ``G[t]``, drive ``d`` (the current after the synapse) and ``u = V - V_th``:

        dL/dd[t] = mean_t'(G[t']) g(u[t] / V_th) / V_th

    The membrane left from the step before, its reset included, is a constant. For ParaLIF u is what its step is
    taken of, differentiated to d[t] alone (in delta modes n(V[t-1]) is constant), and V_th = 1 unless the membrane
    itself is compared. The rule drops the memory that is all that ParaLIF has, so never judge ParaLIF by it alone.

    Args: surrogate ``family`` and ``slope`` of g.

    Source: Hao et al., "Threaten spiking neural networks through combining rate and temporal information", ICLR 2024.

    Raises ``TypeError`` or ``ValueError`` for an unknown family or a slope that is not positive.
    """

    def __init__(self, family: str = "atan", slope: float = 2.0) -> None:
        self.surrogate = make_surrogate(family, slope)
        self.name = "hart" if (family, slope) == ("atan", 2.0) else with_value(f"hart:{family}", slope)

    def rule(self, neuron: Neuron, replay: Replay) -> Tensor:
        unit = neuron.membrane_threshold()
        slopes = derivative(self.surrogate, replay.argument.detach() / unit) / unit
        return replay.attach((slopes * replay.argument).mean(0))
