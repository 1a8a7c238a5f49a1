"""One model under one bundle over all radii: only what is not known yet is attacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_spiking.attacks.bundles import BEST, Stage
from resnet_spiking.attacks.chunk import SPENT, attack_chunk, descend_chunk, misclassified
from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED, SURVIVED, Examples
from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.interrupt import stoppable
from resnet_spiking.attacks.journal import Journal
from resnet_spiking.attacks.losses import margin
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.plan import plan_for, sources_of
from resnet_spiking.attacks.settings import Settings
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.target import Target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.config import content_key
from resnet_spiking.randomness import generator_for
from resnet_spiking.storage.arrays import Arrays
from resnet_spiking.storage.provenance import device_name


@dataclass
class Spent:
    """What one attack cost at one radius, and what went wrong in it (see ``attack_chunk``)."""

    mode: str = "own"
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    head_forwards: int = 0
    broken_gradients: int = 0
    silent: int = 0
    not_finite: int = 0
    outside: int = 0

    def add(self, piece: Arrays) -> None:
        for name, value in zip(SPENT, piece["spent"].tolist(), strict=True):
            setattr(self, name, getattr(self, name) + (value if name == "seconds" else int(value)))


@dataclass
class Sweep:
    """What ``sweep`` returns: the table per example, the cost of each attack at each radius
    (by their positions in the table; of an attack at all radii at once at the smallest it came to), why stages of
    the bundle did not run, and the devices it ran on (several, where it went on elsewhere)."""

    examples: Examples
    spent: dict[tuple[int, int], Spent] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Watch:
    """Whom a sweep tells: ``report(line)``, ``progress(done, total)`` in units of work, ``should_stop()``."""

    report: Callable[[str], None] = lambda line: None
    progress: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], bool] = lambda: False


QUIET = Watch()


def sweep(
    subject: Subject,
    target: Target,
    sample: Sample,
    settings: Settings,
    journal: Journal | None = None,
    *,
    sources: Mapping[str, Target] | None = None,
    watch: Watch = QUIET,
) -> Sweep:
    """Attack ``subject`` with every stage of the bundle at every radius, in the order of the settings.

    An image that is misclassified clean is never attacked; one that is broken at a radius counts as
    broken at every larger one, and is only attacked again by stages of ``everything``, whose figure is their own.
    In descending order one that stands at a radius counts as standing at every smaller one (see ``Settings``).
    ``sources`` are the targets, by model name, that transfers come from.

    Each chunk of images draws from generators made of (seed, model, attack, radius, chunk), and is
    written to ``journal`` when it is done: a sweep that was killed continues to the same bits.

    Raises ``Interrupted`` when asked to stop; call it inside ``attackable(subject.model)``.
    """
    others = {name: source for name, source in (sources or {}).items() if name != subject.name}
    with stoppable(watch.should_stop, subject.model, target.climbed):
        return _Sweeping(subject, target, sample, settings, journal or Journal(), others, watch).run()


class _Sweeping:
    """A sweep in progress."""

    def __init__(
        self,
        subject: Subject,
        target: Target,
        sample: Sample,
        settings: Settings,
        journal: Journal,
        sources: Mapping[str, Target],
        watch: Watch,
    ) -> None:
        self.subject, self.target, self.sample, self.settings = subject, target, sample, settings
        self.journal, self.sources, self.watch = journal, sources, watch
        self.device = next((parameter.device for parameter in subject.model.parameters()), torch.device("cpu"))
        plan = plan_for(subject, target, settings, sources)
        self.minimum, self.stages, self.skipped = plan.minimum, plan.stages, plan.skipped
        self.offset = 1 if self.minimum else 0
        self.spent: dict[tuple[int, int], Spent] = {}
        self.devices: set[str] = set()
        self.reached: dict[str, NDArray[np.float32]] = {}
        radii = range(len(settings.eps))
        self.radii = list(radii if settings.order == "ascending" else reversed(radii))
        self.examples = self._begin()

    def run(self) -> Sweep:
        if self.minimum:
            self._find_minimum_norms(self.minimum)
        if self.settings.order == "ascending":
            for radius in self.radii:
                for number, stage in enumerate(self.stages):
                    self._run_stage(radius, number, stage)
                    self._tell(radius, number + 1)
        else:
            for number, stage in enumerate(self.stages):
                self._descend(number, stage)
        return Sweep(self.examples, self.spent, self.skipped, sorted(self.devices))

    def _generator(self, *labels: str | int) -> torch.Generator:
        return generator_for(self.settings.seed, "attack", self.subject.name, *labels, device=self.device)

    def _batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(rows)
        return self.sample.pixels(chosen).to(self.device), self.sample.labels[chosen].to(self.device)

    def _chunks(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        size = self.settings.batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _begin(self) -> Examples:
        """Score the clean images under the rule, and begin the table."""
        count, radii = len(self.sample), len(self.settings.eps)
        correct, predicted, margins = np.zeros(count, bool), np.zeros(count, np.int64), np.zeros(count, np.float32)
        for number, rows in enumerate(self._chunks(np.arange(count))):
            piece = self._kept(("clean", number), rows, partial(self._score, rows, number))
            correct[rows], predicted[rows], margins[rows] = piece["correct"], piece["prediction"], piece["margin"]
        stages = ([self.minimum] if self.minimum else []) + self.stages
        return Examples(
            norm=self.settings.norm,
            eps=np.array(self.settings.eps),
            stages=np.array([stage.label for stage in stages], dtype=np.str_),
            images=self.sample.images.images[self.sample.indices].numpy(),
            index=self.sample.indices.numpy().astype(np.int64),
            label=self.sample.labels.numpy().astype(np.int64),
            clean_prediction=predicted,
            clean_correct=correct,
            broken=np.full(count, radii, np.int64),
            broken_by=np.full(count, -1, np.int64),
            adversarial=self.sample.pixels().numpy(),
            margin=margins,
            steps=np.zeros(count, np.int64),
            minimum_norm=np.full(count, np.inf),
            tried=np.full((radii, len(stages), count), NOT_TRIED, np.int8),
        )

    @torch.no_grad()
    def _score(self, rows: NDArray[np.int64], number: int) -> Arrays:
        images, labels = self._batch(rows)
        right = self.target.correct(images, labels, self._generator("clean", number))
        logits = self.target.logits(images, self._generator("clean logits", number))
        margins = torch.stack([margin(drawn, labels) for drawn in logits]).mean(0)
        return {
            "correct": right.cpu().numpy(),
            "prediction": logits.mean(0).argmax(1).cpu().numpy(),
            "margin": margins.float().cpu().numpy(),
        }

    def _find_minimum_norms(self, stage: Stage) -> None:
        """Run the minimum-norm attack once; what it finds is broken at every radius not below its norm."""
        table, spent = self.examples, self.spent.setdefault((0, 0), Spent(stage.mode))
        for number, rows in enumerate(self._chunks(table.clean_correct.nonzero()[0])):
            piece = self._piece(stage, (stage.label, number), rows, None)
            spent.add(piece)
            for place, row in enumerate(rows[piece["broken"]].tolist()):
                table.minimum_norm[row] = piece["norms"][place]
                radius = int(np.searchsorted(table.eps, piece["norms"][place]))
                if radius < len(table.eps) and not self.target.stochastic:
                    self._record(row, radius, 0, piece, place)
            if self.target.stochastic:
                self._stretch(stage, number, rows[piece["broken"]], piece)
            self._tell(self.radii[0], 0)
        found = table.minimum_norm[None] <= table.eps[:, None]
        table.tried[:, 0] = np.where(table.clean_correct[None], np.where(found, BROKEN, SURVIVED), NOT_TRIED)
        self._report(stage.label, "any eps", int(table.clean_correct.sum()), int(found[-1].sum()), spent)

    def _stretch(self, stage: Stage, number: int, rows: NDArray[np.int64], found: Arrays) -> None:
        """Record minimum-norm images of a stochastic model, stretched to the smallest radius that holds them.

        On the border, where the attack left them, half of the verdicts go either way.
        """
        table = self.examples
        radii = np.searchsorted(table.eps, found["norms"])
        inside = radii < len(table.eps)
        rows, radii, norms = rows[inside], radii[inside], found["norms"][inside]
        if not len(rows):
            return

        def compute() -> Arrays:
            images, labels = self._batch(rows)
            change = torch.from_numpy(found["images"][inside]).to(self.device) - images
            factor = torch.from_numpy(table.eps[radii] / np.maximum(norms, np.finfo(np.float64).tiny)).clamp_max(1e6)
            moved = images + change * factor.to(images).view(-1, 1, 1, 1)
            moved = torch.cat(
                [
                    Threat(self.settings.norm, float(table.eps[radius])).project(row[None], clean[None])
                    for radius, row, clean in zip(radii.tolist(), moved, images, strict=True)
                ]
            )
            draw = self._generator(stage.label, "stretched", number)
            broken = misclassified(self.target, moved, labels, draw)
            margins = self.target.margins(moved, labels, draw)[broken]
            return {
                "broken": broken.cpu().numpy(),
                "images": moved[broken].cpu().numpy(),
                "broken_margins": margins.float().cpu().numpy(),
                "steps": np.zeros(int(broken.sum()), np.int64),
            }

        piece = self._kept(("stretched", stage.label, number, radii.tolist()), rows, compute)
        hit = piece["broken"]
        for place, (row, radius) in enumerate(zip(rows[hit].tolist(), radii[hit].tolist(), strict=True)):
            self._record(row, radius, 0, piece, place)

    def _open(self, radius: int) -> NDArray[np.bool_]:
        """Say which images ``[N]`` are still to be attacked at the radius."""
        standing = self.examples.surviving(radius)
        return standing if self.settings.order == "ascending" else standing & ~self.examples.inferred(radius)

    def _run_stage(self, radius: int, number: int, stage: Stage) -> None:
        table, position, eps = self.examples, number + self.offset, self.settings.eps[radius]
        rows = (table.clean_correct if stage.everything else self._open(radius)).nonzero()[0][: stage.first]
        if not len(rows):
            return
        resolved = self._resolve(stage, rows, np.full(len(rows), radius))
        spent = self.spent.setdefault((radius, position), Spent(resolved.mode))
        for chunk, members in enumerate(self._chunks(rows)):
            piece = self._piece(resolved, (stage.label, repr(eps), chunk), members, eps)
            spent.add(piece)
            self._take(resolved, position, members, np.full(len(members), radius), piece)
            self._tell(radius, number)
        broken = int((table.tried[radius, position] == BROKEN).sum())
        self._report(stage.label, f"eps {self.settings.labels[radius]}", len(rows), broken, spent)

    def _descend(self, number: int, stage: Stage) -> None:
        """Run a stage on every image at the largest radius where it is not known to fall, then, while it falls, below.

        Attacks that can, climb at all radii in one batch: the images that are left at one alone would fill none.
        """
        table, position = self.examples, number + self.offset
        rows = (table.clean_correct & (table.broken > 0)).nonzero()[0]
        resolved = self._resolve(stage, rows, table.broken[rows] - 1)
        if (
            stage.everything
            or stage.first
            or not find_attack(stage.attack).course
            or make_mode(resolved.mode).per_image
        ):
            for radius in self.radii:
                self._run_stage(radius, number, stage)
        elif len(rows):
            spent = Spent(resolved.mode)
            for chunk, members in enumerate(self._chunks(rows)):
                left, turn = members, 0
                while len(left):
                    labels: tuple[str | int, ...] = (stage.label, "all", chunk, *([turn] if turn else []))
                    piece = self._falling(resolved, labels, left, table.broken[left] - 1)
                    spent.add(piece)
                    self._take(resolved, position, left[piece["rows"]], piece["radii"], piece)
                    left, turn = left[self._goes_on(left, position)], turn + 1
                self._tell_stage(number, min((chunk + 1) * self.settings.batch_size / len(rows), 1))
            smallest = int((table.tried[:, position] != NOT_TRIED).any(1).argmax())
            self.spent[smallest, position] = spent
            broken = int((table.tried[:, position] == BROKEN).any(0).sum())
            self._report(stage.label, "eps by eps", len(rows), broken, spent)
        self._tell_stage(number + 1, 0)

    def _goes_on(self, rows: NDArray[np.int64], position: int) -> NDArray[np.bool_]:
        """Say which images have fallen to the stage at a radius below which it has not gone.

        A climb goes down by its own verdict; that of independent draws may find an image fallen where it did not.
        """
        table = self.examples
        radii = table.broken[rows]
        fallen = table.tried[np.minimum(radii, len(table.eps) - 1), position, rows] == BROKEN
        return (radii > 0) & (radii < len(table.eps)) & fallen & (table.tried[radii - 1, position, rows] == NOT_TRIED)

    def _take(
        self,
        stage: Stage,
        position: int,
        rows: NDArray[np.int64],
        radii: NDArray[np.int64],
        piece: Arrays,
    ) -> None:
        """Enter attempts ``[A]`` at images ``rows`` and radii into the table."""
        table = self.examples
        table.tried[radii, position, rows] = np.where(piece["broken"], BROKEN, SURVIVED)
        hit = piece["broken"]
        for place, (row, radius) in enumerate(zip(rows[hit].tolist(), radii[hit].tolist(), strict=True)):
            if table.broken[row] > radius:
                self._record(row, radius, position, piece, place)
        if not self.stages[position - self.offset].everything and find_attack(stage.attack).kind == "white-box":
            nothing = np.full((len(table.eps), len(table)), np.nan, np.float32)
            reached = self.reached.setdefault(stage.mode, nothing)
            before = reached[radii, rows]
            reached[radii, rows] = np.where(np.isnan(before), piece["margins"], before)

    def _resolve(self, stage: Stage, rows: NDArray[np.int64], radii: NDArray[np.int64]) -> Stage:
        """Put the mode that reached the largest mean margin on these very images and radii in the place of ``BEST``."""
        if stage.mode != BEST:
            return stage
        found = {mode: reached[radii, rows] for mode, reached in self.reached.items()}
        found = {mode: reached for mode, reached in found.items() if np.isfinite(reached).any()}
        shared = np.logical_and.reduce([np.isfinite(reached) for reached in found.values()], axis=0)
        means = {mode: float(reached[shared].mean()) for mode, reached in found.items() if np.any(shared)}
        return replace(stage, mode=max(means, key=lambda mode: means[mode]) if means else "assg")

    def _piece(self, stage: Stage, labels: tuple[str | int, ...], rows: NDArray[np.int64], eps: float | None) -> Arrays:
        """Return what the stage did to the images at ``rows``: from the journal, or done now."""
        sources = sources_of(stage, self.sources)

        def compute() -> Arrays:
            images, truth = self._batch(rows)
            steer, confirm = self._generator(*labels), self._generator(*labels, "confirm")
            return attack_chunk(
                stage, self.target, images, truth, self.settings.norm, eps, steer, confirm, list(sources.values())
            )

        return self._kept((stage.attack, stage.mode, stage.options, eps, sorted(sources), labels), rows, compute)

    def _falling(
        self, stage: Stage, labels: tuple[str | int, ...], rows: NDArray[np.int64], first: NDArray[np.int64]
    ) -> Arrays:
        """Return what the stage did to the images at ``rows`` from the radii ``first`` down."""

        def compute() -> Arrays:
            images, truth = self._batch(rows)
            steer, confirm = self._generator(*labels), self._generator(*labels, "confirm")
            start = torch.from_numpy(first).to(self.device)
            settings = self.settings
            return descend_chunk(stage, self.target, images, truth, settings.norm, settings.eps, start, steer, confirm)

        key = (stage.attack, stage.mode, stage.options, self.settings.eps, first.tolist(), labels)
        return self._kept(key, rows, compute)

    def _kept(self, key: tuple[Any, ...], rows: NDArray[np.int64], compute: Callable[[], Arrays]) -> Arrays:
        """Return the piece ``key`` about the images at ``rows`` from the journal, or computed.

        All that a piece depends on is in its name, so that one from before models were added or left out is found
        where it still holds, and only there.
        """
        images = self.sample.indices[rows].tolist()
        piece = self.journal.arrays(
            f"{self.subject.name}-{content_key(*map(str, key), images)}",
            lambda: {**compute(), "device": np.array(device_name(self.device))},
        )
        self.devices.add(str(piece["device"]))
        return piece

    def _record(self, row: int, radius: int, position: int, piece: Arrays, place: int) -> None:
        table = self.examples
        table.broken[row], table.broken_by[row] = radius, position
        table.adversarial[row] = piece["images"][place]
        table.margin[row], table.steps[row] = piece["broken_margins"][place], piece["steps"][place]

    def _report(self, label: str, where: str, tried: int, broken: int, spent: Spent) -> None:
        forwards, backwards = (count / max(1, tried) for count in (spent.forwards, spent.backwards))
        each = f"{forwards:.0f} forwards and {backwards:.0f} backwards an image"
        line = f"{self.subject.name}, {where}: {label} broke {broken} of {tried} in {spent.seconds:.1f} s ({each})"
        self.watch.report(line)

    def _tell(self, radius: int, stages_done: int) -> None:
        """Report work done: an image whose state at the radius is known leaves nothing to do there."""
        if self.settings.order == "descending":
            self._tell_stage(stages_done, self.radii.index(radius) / len(self.radii))
            return
        weights = [_weight(stage) for stage in self.stages]
        first, each, radii = _weight(self.minimum) if self.minimum else 0, sum(weights), len(self.radii)
        passed = first + each * radius + sum(weights[:stages_done])
        # An image whose radius is known (from its minimum norm) has none of those above it to come.
        settled = each * np.clip(radii - 1 - self.examples.broken, 0, None)
        whole = first + each * radii
        done = np.where(self._open(radius), np.minimum(passed + settled, whole), whole)
        self.watch.progress(int(done.sum()), max(1, whole * len(self.examples)))

    def _tell_stage(self, stages_done: int, share: float) -> None:
        """Report work done in descending order: whole stages, and the share of the one in work."""
        weights = [_weight(stage) for stage in ([self.minimum] if self.minimum else []) + self.stages]
        passed = stages_done + self.offset
        done = sum(weights[:passed]) + share * sum(weights[passed : passed + 1])
        self.watch.progress(int(done), max(1, sum(weights)))


def _weight(stage: Stage) -> int:
    """Return roughly how many gradients the stage costs an image."""
    options = stage.options
    return int(options.get("steps", 1)) * int(options.get("classes", 1)) + int(options.get("queries", 0)) // 3
