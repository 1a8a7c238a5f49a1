"""Backward pass through rates (BPTR)."""

from __future__ import annotations

from torch import Tensor

from neurons import Neuron
from neurons.replay import Replay
from resnet_spiking.attacks.gradients.rule_mode import RuleMode


class BackwardThroughRate(RuleMode):
    """A layer is differentiated as a map of rates: from the mean current to the mean of the spikes.

    With incoming gradient ``G[t]``, mean spikes ``r = mean_t s[t]`` and drive ``d`` (the current after the
    synapse), straight through wherever the neuron fires:

        dL/dd[t] = mean_t'(G[t']) 1[r > 0] / V_th

    It knows neither decay nor reset. For ParaLIF it means the same: mean spikes, drawn or not, against the
    mean drive, with V_th = 1 where spikes are drawn or a rise is compared; there it ignores that a constant drive
    makes delta modes fall silent, so never judge ParaLIF by it alone.

    Source: Ding et al., "SNN-RAT: Robustness-enhanced spiking neural network through regularized adversarial
    training", NeurIPS 2022 (there with V_th = 1).
    """

    name = "bptr"

    def rule(self, neuron: Neuron, replay: Replay) -> Tensor:
        fires = (replay.spikes.mean(0) > 0).to(replay.spikes.dtype)
        return replay.attach(fires * replay.drive.mean(0) / replay.threshold)
