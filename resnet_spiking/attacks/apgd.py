"""APGD: projected gradient ascent with momentum that sets its own step size, per image."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_spiking.attacks.best import Best, Outcome, survivors
from resnet_spiking.attacks.checks import check_count, check_not_negative
from resnet_spiking.attacks.climb import Climb, LossOf, Query, climb_alone
from resnet_spiking.attacks.losses import TARGETED, find_loss
from resnet_spiking.attacks.schedule import checkpoints
from resnet_spiking.attacks.target import Step, Target
from resnet_spiking.attacks.threat import Threat, expand
from resnet_spiking.errors import check_known

MOMENTUM = 0.75


def apgd(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    rho: float = 0.75,
) -> Outcome:
    """Maximise ``loss`` (``ce``, ``margin`` or ``dlr``) from ``restarts`` random starts of norm eps.

    With the step size eta (2 eps at first), the projection P onto ball and box, and a = 0.75 (1 at first)::

        z       = P(x_k + eta s(grad L(x_k)))            s: sign, or unit L2 norm
        x_{k+1} = P(x_k + a (z - x_k) + (1 - a) (x_k - x_{k-1}))

    At checkpoints (after 22 % of the steps, then at intervals that shrink by 3 % of them down to 6 %) eta is
    halved, and the ascent goes back to the point of largest loss, for each image whose loss rose in no more than
    ``rho`` of the steps since the last one, or whose largest loss and eta are both what they were there.
    Each image stops at its first success. One step costs a forward and a backward pass.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", ICML 2020, algorithm 1, and the defaults of AutoAttack.

    Raises ``UserError`` for an unknown loss, a count below 1 or a ``rho`` outside [0, 1].
    """
    course = untargeted(target, images, labels, generator=generator, steps=steps, restarts=restarts, loss=loss, rho=rho)
    return course.run(target, images, labels, threat, generator)


def apgd_targeted(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "dlr",
    classes: int = 9,
    rho: float = 0.75,
) -> Outcome:
    """Run ``apgd`` towards each of the ``classes`` other classes of largest logit on the clean image, in that order.

    ``loss`` is ``dlr`` or ``margin``, both targeted. Any misclassification is a success and ends an image's search.

    Source: Croce and Hein, ICML 2020, section 4.3 (9 target classes).

    Raises ``UserError`` for an unknown loss, a count below 1 or a ``rho`` outside [0, 1].
    """
    chosen = {"steps": steps, "restarts": restarts, "classes": classes}
    course = targeted(target, images, labels, generator=generator, loss=loss, rho=rho, **chosen)
    return course.run(target, images, labels, threat, generator)


def untargeted(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    rho: float = 0.75,
) -> ApgdCourse:
    """Make ``apgd`` ready for these images.

    Raises ``UserError`` for an unknown loss, a count below 1 or a ``rho`` outside [0, 1].
    """
    chosen = find_loss(loss)
    check_count("steps", steps)
    check_count("restarts", restarts)
    check_not_negative("rho", rho, most=1)
    return ApgdCourse(labels[:, None], lambda _: chosen, steps, restarts, rho)


def targeted(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "dlr",
    classes: int = 9,
    rho: float = 0.75,
) -> ApgdCourse:
    """Make ``apgd_targeted`` ready for these images.

    Raises ``UserError`` for an unknown loss, a count below 1 or a ``rho`` outside [0, 1].
    """
    check_known("loss", loss, TARGETED)
    for name, value in (("steps", steps), ("restarts", restarts), ("classes", classes)):
        check_count(name, value)
    check_not_negative("rho", rho, most=1)
    others = other_classes(target, images, labels, generator, classes)
    return ApgdCourse(others, TARGETED[loss], steps, restarts, rho)


@torch.no_grad()
def other_classes(target: Target, images: Tensor, labels: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Return the ``count`` classes of largest mean logit other than the label, best first ``[B, count]`` (or all)."""
    logits = target.logits(images, generator).mean(0).scatter(1, labels[:, None], -torch.inf)
    return logits.topk(min(count, target.classes - 1), dim=1).indices


class _State(NamedTuple):
    """What the ascent keeps for each image that is still attacked, A of them."""

    rows: Tensor
    clean: Tensor
    labels: Tensor
    goal: Tensor
    at: Tensor
    before: Tensor
    gradient: Tensor
    size: Tensor
    loss: Tensor
    top_loss: Tensor
    top: Tensor
    top_gradient: Tensor
    rises: Tensor
    checked_loss: Tensor
    checked_halved: Tensor


@dataclass(frozen=True)
class ApgdCourse:
    """APGD made ready for a batch of images: towards each of the ``goals [B, G]`` in turn, ``restarts`` times.

    ``loss_of(goals [A])`` is the loss.
    """

    goals: Tensor
    loss_of: LossOf
    steps: int
    restarts: int
    rho: float

    def run(
        self, target: Target, images: Tensor, labels: Tensor, threat: Threat, generator: torch.Generator
    ) -> Outcome:
        """Climb alone, for the images that are not misclassified already."""
        best = Best.of_clean(target, images, labels, generator)
        climb = self.climb(target, images, labels, self.goals, threat, best, generator)
        return climb_alone(target, climb, self.loss_of, generator)

    def climb(
        self,
        target: Target,
        clean: Tensor,
        labels: Tensor,
        goals: Tensor,
        threat: Threat,
        best: Best,
        generator: torch.Generator,
    ) -> Climb:
        """Climb for the images of ``best`` that have not succeeded; whatever succeeds is marked there at once."""
        ascent = _Ascent(target, threat, generator, best, self.steps, self.rho)
        for _ in range(self.restarts if threat.eps else 0):
            for goal in goals.T:
                yield from ascent.run(clean, labels, goal)
        return best.outcome()


class _Ascent:
    """Runs of APGD that share one record of the best iterates."""

    def __init__(
        self, target: Target, threat: Threat, generator: torch.Generator, best: Best, steps: int, rho: float
    ) -> None:
        self.target = target
        self.threat = threat
        self.generator = generator
        self.best = best
        self.steps = steps
        self.rho = rho
        self.spent = 0

    def run(self, images: Tensor, labels: Tensor, goals: Tensor) -> Generator[Query, Step, None]:
        """Climb from one random start towards ``goals [B]``, for the images that have not succeeded."""
        index = self.best.active
        if not len(index):
            return
        self.target.mode.start()
        clean = images[index]
        start = self.threat.random_rim(clean, self.generator)
        zeros = torch.zeros(len(index), device=images.device)
        low = torch.full_like(zeros, -torch.inf, dtype=torch.float64)
        state = _State(
            rows=index,
            clean=clean,
            labels=labels[index],
            goal=goals[index],
            at=start,
            before=start,
            gradient=torch.zeros_like(start),
            size=torch.full_like(zeros, 2 * self.threat.eps, dtype=images.dtype),
            loss=low,
            top_loss=low,
            top=start,
            top_gradient=torch.zeros_like(start),
            rises=zeros,
            checked_loss=low,
            # So that the first checkpoint judges by the rises alone, as in AutoAttack.
            checked_halved=torch.ones_like(index, dtype=torch.bool),
        )
        state = yield from self._look(state)
        state = state._replace(checked_loss=state.top_loss, rises=torch.zeros_like(state.rises))
        due = checkpoints(self.steps)
        for step in range(1, self.steps + 1):
            if not len(state.rows):
                return
            state = self._move(state, MOMENTUM if step > 1 else 1.0)
            if step == self.steps:
                found = yield Query(state.at, state.labels, state.goal, gradient=False)
                self.spent += 1
                self.best.update(state.rows, state.at, found.margin, self.spent)
                return
            state = yield from self._look(state)
            if step in due:
                state = self._check(state, due[step])

    def _look(self, state: _State) -> Generator[Query, Step, _State]:
        """Take loss and gradient at the present point, and let go of the images that have succeeded there."""
        found = yield Query(state.at, state.labels, state.goal)
        self.spent += 1
        done = self.best.update(state.rows, state.at, found.margin, self.spent)
        loss = torch.where(found.loss.isfinite(), found.loss.double(), -torch.inf)
        higher = loss > state.top_loss
        state = state._replace(
            gradient=found.gradient,
            loss=loss,
            rises=state.rises + (loss > state.loss),
            top_loss=torch.where(higher, loss, state.top_loss),
            top=torch.where(expand(higher, state.at), state.at, state.top),
            top_gradient=torch.where(expand(higher, state.at), found.gradient, state.top_gradient),
        )
        return _State(*survivors(self.target, done, *state))

    def _move(self, state: _State, share: float) -> _State:
        ahead = state.at + expand(state.size, state.at) * self.threat.steepest(state.gradient)
        ahead = self.threat.project(ahead, state.clean)
        moved = state.at + share * (ahead - state.at) + (1 - share) * (state.at - state.before)
        return state._replace(at=self.threat.project(moved, state.clean), before=state.at)

    def _check(self, state: _State, interval: int) -> _State:
        """Halve the step, and return to the top, where the last ``interval`` steps did not pay."""
        oscillates = state.rises <= self.rho * interval
        stuck = ~state.checked_halved & (state.checked_loss >= state.top_loss)
        halve = oscillates | stuck
        wide = expand(halve, state.at)
        return state._replace(
            size=torch.where(halve, state.size / 2, state.size),
            at=torch.where(wide, state.top, state.at),
            gradient=torch.where(wide, state.top_gradient, state.gradient),
            rises=torch.zeros_like(state.rises),
            checked_loss=state.top_loss,
            checked_halved=halve,
        )
