"""Learning from Default: the part of the loss that compares two networks' logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``tau^2 KL(softmax(teacher / tau) || softmax(logits / tau))`` in nats, the mean over a batch ``[B, C]``.

    ``tau^2`` keeps the size of the gradient when the temperature changes. The teacher gets no gradient.
    Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, arXiv:1503.02531.
    """
    student = functional.log_softmax(logits / temperature, 1)
    taught = functional.log_softmax(teacher.detach() / temperature, 1)
    return temperature**2 * functional.kl_div(student, taught, log_target=True, reduction="batchmean")
