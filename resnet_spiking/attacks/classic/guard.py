"""Runs any attack of torchattacks so that only what its queries prove reaches a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from resnet_spiking.attacks.best import Best, Outcome
from resnet_spiking.attacks.checks import check_images, check_labels
from resnet_spiking.attacks.classic.ledger import AllBroken, Ledger
from resnet_spiking.attacks.classic.witness import Judge, Witness
from resnet_spiking.attacks.minimum import MinimumNorm, Nearest
from resnet_spiking.attacks.target import Target, attackable, global_draws
from resnet_spiking.attacks.threat import Threat

# Builds an attack, that is (images, labels) -> images, for a model and a seed.
Make = Callable[[nn.Module, int], Callable[[Tensor, Tensor], Tensor]]


@dataclass(frozen=True)
class Stage:
    """One attack of a run.

    ``draws``: how many a query of a stochastic model averages (default: the target's). ``alone``: one image at a
    time, for an attack in which an image's result depends on its neighbours.
    """

    make: Make
    draws: int | None = None
    alone: bool = False


def guarded(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *stages: Stage,
    generator: torch.Generator,
) -> Outcome:
    """Run attacks one after the other, each on the images ``[B, C, H, W]`` that have not succeeded before it.

    The outcome is read from the queries, never from what an attack returns or says about its success: the best
    iterate in the ball and the box, finite, with finite logits, a tie counted against the defender. What an attack
    returns is one more query. A batch ends when all of its images have succeeded.

    Each attack is a new object on a ``Witness``, with its own seed from ``generator``; torch's global generators,
    every module's training flag, and every parameter's ``requires_grad`` and gradient are afterwards what they were.

    Raises ``UserError`` for images outside [0, 1] or not finite, and for labels that are no classes.
    """
    _check(target, images, labels)
    with _isolated(target, images.device, generator):
        best = Best.of_clean(target, images, labels, generator)
        step = count(1)
        for stage in stages if threat.eps else ():
            active = best.active
            for rows in active.split(1 if stage.alone else len(active)) if len(active) else ():
                ledger = Ledger(best, rows, images[rows], labels[rows], threat, step)
                witness = Witness(target, generator, ledger.note, stage.draws)
                try:
                    witness.look(stage.make(witness, _seed(generator))(images[rows], labels[rows]))
                except AllBroken:
                    continue
    return best.outcome()


def guarded_minimum(
    target: Target, images: Tensor, labels: Tensor, norm: str, stages: Sequence[Make], *, generator: torch.Generator
) -> MinimumNorm:
    """Return the nearest misclassified iterate of each image among all queries of attacks that minimise a norm.

    The first attack runs on every image that is classified correctly as it is; each further one on those that no
    attack before it has broken. One image at a time, and otherwise as ``guarded``.
    """
    _check(target, images, labels)
    with _isolated(target, images.device, generator):
        nearest = Nearest(target, images, labels, norm, generator)
        for make in stages:
            # A misclassified image has norm 0; one that a former attack has broken, a finite norm.
            for row in nearest.norms.isinf().nonzero():

                def note(iterates: Tensor, judge: Judge, row: Tensor = row) -> None:
                    boxed = ((iterates >= 0) & (iterates <= 1)).flatten(1).all(1).nonzero().squeeze(1)
                    if len(boxed):
                        nearest.update(row, iterates[boxed], judge(boxed, labels[row]))

                witness = Witness(target, generator, note)
                witness.look(make(witness, _seed(generator))(images[row], labels[row]))
    return nearest.result()


def _check(target: Target, images: Tensor, labels: Tensor) -> None:
    check_images(images)
    check_labels(labels, images, target.classes)


@contextmanager
def _isolated(target: Target, device: torch.device, generator: torch.Generator) -> Iterator[None]:
    """Keep what an attack does to torch's global generators and to the model from lasting."""
    # PGD and CW's kin draw from the global generator without a seed of their own.
    with attackable(target.model), global_draws(generator, device):
        yield


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator, device=generator.device))
