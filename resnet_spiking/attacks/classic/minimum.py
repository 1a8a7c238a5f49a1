"""torchattacks' DeepFool and CW: the smallest L2 change that any of their queries proves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.checks import check_count, check_not_negative, check_positive
from resnet_spiking.attacks.classic.guard import Make, guarded_minimum
from resnet_spiking.attacks.minimum import MinimumNorm
from resnet_spiking.attacks.target import Target
from resnet_spiking.errors import UserError

# CW moves atanh(2x - 1), which is infinite for pixels of 0 and 1: they would never move. The original code shrinks
# the box by this much.
WALL = 5e-7


def deepfool(
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: str = "l2",
    *,
    generator: torch.Generator,
    steps: int = 50,
    overshoot: float = 0.02,
) -> MinimumNorm:
    """Steps to the nearest linearised border until the label is lost; a step costs a backward pass per class.

    Source: Moosavi-Dezfooli et al., "DeepFool: a simple and accurate method to fool deep neural networks",
    CVPR 2016; torchattacks 3.5.1.
    """
    import torchattacks

    check_count("steps", steps)
    check_not_negative("overshoot", overshoot)

    def make(model: nn.Module, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
        return torchattacks.DeepFool(model, steps=steps, overshoot=overshoot)

    return guarded_minimum(target, images, labels, _l2(norm, "ta-deepfool"), [make], generator=generator)


def cw(
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: str = "l2",
    *,
    generator: torch.Generator,
    steps: int = 1000,
    learning_rate: float = 0.01,
    constants: Sequence[float] = (1.0, 10.0, 100.0),
) -> MinimumNorm:
    """Minimise ``||x' - x||^2 + c max(z_y - max_{j != y} z_j, 0)`` over ``x' = (tanh w + 1)/2`` with Adam.

    torchattacks has no search for c: the first of ``constants`` is run on every image, each further one on those
    that none before has broken. It ends an image's descent when a tenth of the steps brought nothing.

    Source: Carlini and Wagner, "Towards evaluating the robustness of neural networks", S&P 2017 (Adam, rate 0.01;
    their code searches c over 1e-3 to 1e10 with 10,000 steps each); torchattacks 3.5.1 (c = 1, 50 steps).
    """
    import torchattacks

    check_count("steps", steps)
    check_positive("learning_rate", learning_rate)
    if not constants:
        raise UserError("constants must be positive numbers, at least one")
    for constant in constants:
        check_positive("each of constants", constant)

    def stage(constant: float) -> Make:
        def make(model: nn.Module, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
            attack = torchattacks.CW(model, c=constant, kappa=0, steps=steps, lr=learning_rate)
            return lambda pixels, truth: attack(pixels.clamp(WALL, 1 - WALL), truth)

        return make

    stages = [stage(constant) for constant in constants]
    return guarded_minimum(target, images, labels, _l2(norm, "ta-cw"), stages, generator=generator)


def _l2(norm: str, name: str) -> str:
    if norm != "l2":
        raise UserError(f"{name} works in l2 only, not in {norm}")
    return norm
