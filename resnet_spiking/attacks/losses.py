"""What an attack increases. Each maps logits ``[B, C]`` and labels ``[B]`` to a value per image ``[B]``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from resnet_spiking.errors import check_known

Loss = Callable[[Tensor, Tensor], Tensor]

# Logits that count spikes tie: 1/(z1 - z3) would be 1e12 and every step a rounding error.
SMALLEST_SPREAD = 1e-3


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log softmax(z)_y``, in fp64.

    In fp32 the probability of a confident label rounds to 1 from a margin of 17 on, and its share of the
    gradient to 0.
    """
    return functional.cross_entropy(logits.double(), labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``max_{j != y} z_j - z_y``: not negative exactly when the image is misclassified, a tie included."""
    return best_other(logits, labels) - logits.gather(1, labels[:, None]).squeeze(1)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio ``-(z_y - max_{j != y} z_j) / (z_(1) - z_(3))``, z_(k) the k-th largest.

    The denominator is at least ``SMALLEST_SPREAD``. Two classes have no third, and the ratio with the second would be
    -1 everywhere: there it is the margin.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", ICML 2020, section 4.1.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    ordered = logits.topk(3, dim=1).values
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2]).clamp_min(SMALLEST_SPREAD)


def targeted_margin(targets: Tensor) -> Loss:
    """Return the loss ``z_t - z_y`` for the given targets ``t [B]``."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)

    return loss


def targeted_dlr(targets: Tensor) -> Loss:
    """Return the loss ``-(z_y - z_t) / (z_(1) - (z_(3) + z_(4))/2)``, with the same guard as ``dlr``.

    Below four classes it is the targeted margin, for the same reason.

    Source: Croce and Hein, ICML 2020, section 4.3.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        gain = targeted_margin(targets)(logits, labels)
        if logits.shape[1] < 4:
            return gain
        ordered = logits.topk(4, dim=1).values
        spread = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
        return gain / spread.clamp_min(SMALLEST_SPREAD)

    return loss


def best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest logit ``[B]`` of a class that is not the label."""
    mask = functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(mask, -torch.inf).amax(1)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
TARGETED: dict[str, Callable[[Tensor], Loss]] = {"margin": targeted_margin, "dlr": targeted_dlr}


def find_loss(name: str) -> Loss:
    """Return the loss of that name.

    Raises ``UserError`` for an unknown one.
    """
    check_known("loss", name, LOSSES)
    return LOSSES[name]
