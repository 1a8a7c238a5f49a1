"""The model as an attack of torchattacks sees it: differentiated by the gradient mode, and watched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.target import Target

# (rows [n] of the query, labels [n]) -> margins [n]
Judge = Callable[[Tensor, Tensor], Tensor]
# Takes the queried images [m, C, H, W] and the judge of that query.
Note = Callable[[Tensor, Judge], None]


class Witness(nn.Module):
    """Maps pixels ``[m, C, H, W]`` to logits ``[m, classes]`` in fp64 and reports every new query to ``note``.

    A query whose pixels want a gradient runs under the target's gradient mode; any other builds no graph. Of a
    stochastic model the attack sees the mean of the logits over ``draws`` draws (default: the target's): its loss
    is that of the mean logits, where ``Target.step`` takes the mean of the losses. Success is never read from the
    draws that steer, nor from a forward that the mode relaxes: ``Target.margins`` judges it from new ones.

    Logits come out shifted, for each image, to ``z - min z + (max z - min z)``. No loss of a classifier changes by a
    shift, but the one in ``torchattacks.CW`` takes the largest of products with a one-hot mask and is right for
    positive logits alone. fp64, because in fp32 the probability of a confident label rounds to 1 from a margin of 17
    on, and its share of the gradient of the cross-entropy to 0.

    A gradient is zero where it is not finite. The target's meter counts forward and backward passes.

    The model is no submodule: ``eval()`` and ``train()``, which torchattacks calls, stop here.
    """

    def __init__(self, target: Target, generator: torch.Generator, note: Note, draws: int | None = None) -> None:
        super().__init__()
        self._target = target
        self._generator = generator
        self._note = note
        self._draws = draws
        self._seen: Tensor | None = None
        self._steered = 0
        # torchattacks takes the device from the first parameter.
        self.device_of = nn.Parameter(torch.empty(0, device=generator.device), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and images.requires_grad:
            logits = self._differentiable(images)
        else:
            with torch.no_grad():
                logits = self._target.logits(images, self._generator, self._draws)
        self.look(images, logits.detach())
        return positive(logits.double().mean(0))

    def look(self, images: Tensor, logits: Tensor | None = None) -> None:
        """Report images ``[m, C, H, W]``, unless they are those of the last query.

        ``logits [K, m, classes]`` are theirs, computed here when the report needs them and they are not given.
        """
        if self._seen is not None and torch.equal(self._seen, images):
            return
        images = images.detach()
        self._seen = images.clone()
        target, generator = self._target, self._generator
        exact = logits is not None and not target.stochastic and target.mode.exact_forward

        def judge(rows: Tensor, labels: Tensor) -> Tensor:
            if exact and logits is not None:
                return margin(logits[0, rows], labels)
            return target.margins(images[rows], labels, generator)

        self._note(images, judge)

    def _differentiable(self, images: Tensor) -> Tensor:
        # What a mode keeps per image belongs to a batch of this size only.
        if len(images) != self._steered:
            self._target.mode.start()
            self._steered = len(images)
        pixels = images.view_as(images)
        pixels.register_hook(self._meter)
        return self._target.differentiable_logits(pixels, self._generator, self._draws)

    def _meter(self, gradient: Tensor) -> Tensor:
        meter = self._target.meter
        finite = gradient.isfinite()
        sound = torch.where(finite, gradient, 0)
        meter.backwards += len(gradient)
        meter.broken_gradients += int((~finite.flatten(1).all(1)).sum())
        meter.zero_gradients += int((sound.flatten(1) == 0).all(1).sum())
        return sound


def positive(logits: Tensor) -> Tensor:
    """Shift each row of logits ``[m, classes]`` by a constant so that the smallest is its range ``max - min``."""
    with torch.no_grad():
        least, most = logits.amin(1, keepdim=True), logits.amax(1, keepdim=True)
        shift = most - 2 * least
    return logits + shift
