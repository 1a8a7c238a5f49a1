"""The same network with rectifiers for neurons, in the backward pass."""

from __future__ import annotations

from torch import Tensor

from neurons import Neuron
from neurons.replay import Replay
from resnet_spiking.attacks.gradients.rule_mode import RuleMode


class Relaxed(RuleMode):
    """Every neuron is differentiated as a ReLU of its mean drive, the rate of a neuron without leak.

    With incoming gradient ``G[t]`` and drive ``d`` (the current after the synapse):

        r = max(0, mean_t d[t]) / V_th,   dL/dd[t] = mean_t'(G[t']) 1[mean_t d[t] > 0] / V_th

    Unlike BPTR it passes silent neurons whose drive is positive, so that layers without any spike still have a
    gradient. V_th is 1 for ParaLIF modes that draw spikes or compare a rise. Spikes are the model's own.

    Source: member "Act" of the ensemble of Özdenizci and Legenstein, "Adversarially robust spiking neural
    networks through conversion", TMLR 2024.
    """

    name = "relu"

    def rule(self, neuron: Neuron, replay: Replay) -> Tensor:
        return replay.attach(replay.drive.mean(0).relu() / replay.threshold)
