"""An attack as a climb that asks for gradients, so that it need not know who else is in the batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.losses import Loss
from resnet_spiking.attacks.target import Step, Target


class Query(NamedTuple):
    """What a climb asks about points ``at [A, C, H, W]`` of images with ``labels [A]`` and ``goals [A]``.

    Without ``gradient`` it asks for the margin alone; loss and gradient of the answer are then NaN.
    """

    at: Tensor
    labels: Tensor
    goals: Tensor
    gradient: bool = True


Climb = Generator[Query, Step, Outcome]
LossOf = Callable[[Tensor], Loss]


def climb_alone(target: Target, climb: Climb, loss_of: LossOf, generator: torch.Generator) -> Outcome:
    """Answer one climb to its end. ``loss_of(goals [A])`` is the loss of a batch whose images have these goals."""
    try:
        query = next(climb)
        while True:
            query = climb.send(answer(target, [query], loss_of, generator)[0])
    except StopIteration as end:
        return end.value


def answer(target: Target, queries: Sequence[Query], loss_of: LossOf, generator: torch.Generator) -> list[Step]:
    """Answer all queries with at most one batch for gradients and one for margins."""
    answers: dict[int, Step] = {}
    for gradient in (True, False):
        asked = [number for number, query in enumerate(queries) if query.gradient == gradient]
        if not asked:
            continue
        together = [queries[number] for number in asked]
        at = torch.cat([query.at for query in together])
        labels = torch.cat([query.labels for query in together])
        goals = torch.cat([query.goals for query in together])
        if gradient:
            found = target.step(at, labels, loss_of(goals), generator)
        else:
            margin = target.margins(at, labels, generator)
            found = Step(torch.full_like(margin, torch.nan), torch.full_like(at, torch.nan), margin)
        sizes = [len(query.labels) for query in together]
        answers |= zip(asked, map(Step, *(part.split(sizes) for part in found)), strict=True)
    return [answers[number] for number in range(len(queries))]
