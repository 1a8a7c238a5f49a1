"""What the checks work with: a finished sweep, and further attacks on a small fixed subset."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_spiking.attacks.bundles import Checking, Stage
from resnet_spiking.attacks.chunk import attack_chunk
from resnet_spiking.attacks.journal import Journal
from resnet_spiking.attacks.minimum import median
from resnet_spiking.attacks.settings import Settings
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.sweep import Sweep
from resnet_spiking.attacks.target import Target
from resnet_spiking.config import content_key
from resnet_spiking.randomness import generator_for
from resnet_spiking.storage.arrays import Arrays


class Probe:
    """One model after its sweep.

    ``rows``: the subset, the first ``checking.images`` images that are classified correctly; ``eps``: the radius that
    attacks on it get, the median minimum norm (there half of the images fall, so that differences
    show), or without one the sweep's radius that leaves nearest to half of them; ``radius``: the position
    of the sweep's radius nearest to half, which checks on survivors use, among those that leave any;
    ``mode``: the gradient mode of attacks whose mode is not what is examined.
    """

    def __init__(
        self,
        subject: Subject,
        target: Target,
        sample: Sample,
        settings: Settings,
        sweep: Sweep,
        journal: Journal | None = None,
        others: Mapping[str, tuple[Subject, Sweep]] | None = None,
    ) -> None:
        self.subject, self.target, self.sample, self.settings, self.sweep = subject, target, sample, settings, sweep
        self.journal = journal or Journal()
        self.others = {name: found for name, found in (others or {}).items() if name != subject.name}
        self.examples = sweep.examples
        self.checking: Checking = settings.bundle.checking
        self.device = next((parameter.device for parameter in subject.model.parameters()), torch.device("cpu"))
        self.rows = self.examples.clean_correct.nonzero()[0][: self.checking.images]
        self.mode = "atan:2" if subject.spiking else "own"
        left = [int(self.examples.surviving(radius).sum()) for radius in range(len(settings.eps))]
        half = int(self.examples.clean_correct.sum()) / 2
        # Where nothing survives there is nothing to examine, however near to half it is.
        self.radius = min(
            range(len(left)),
            key=lambda radius: (settings.eps[radius] == 0, left[radius] == 0, abs(left[radius] - half)),
        )
        middle = median(self.examples.minimum_norm[self.examples.clean_correct].tolist())
        usable = middle is not None and 0 < middle <= (1 if settings.norm == "linf" else math.inf)
        self.eps = float(middle) if usable and middle is not None else float(settings.eps[self.radius])

    @property
    def empty(self) -> bool:
        """Whether no image is classified correctly, so that nothing can be attacked."""
        return not len(self.rows)

    def survivors(self) -> NDArray[np.int64]:
        """Return the first ``checking.survivors`` images that the bundle left standing at ``radius``."""
        return self.examples.surviving(self.radius).nonzero()[0][: self.checking.survivors]

    def radius_text(self, eps: float) -> str:
        """Return a radius as it is read: levels of 255 in Linf, a length in L2."""
        return f"{eps * 255:.3g}/255" if self.settings.norm == "linf" else f"{eps:.3g}"

    def share_of_all(self, broken: int, tried: int) -> float:
        """Return by how much the reported accuracy at ``radius`` would fall if all survivors were as those tried."""
        left = int(self.examples.surviving(self.radius).sum())
        return broken / tried * left / len(self.examples) if tried else 0.0

    def value(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the JSON-ready value ``key`` of this sweep from the journal, or computed."""
        table = self.examples
        swept = content_key(table.stages.tolist(), hashlib.sha256(table.broken.tobytes()).hexdigest())
        return self.journal.value(f"{self.subject.name}-check-{key}-{swept}", compute)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return pixels and labels of images of the sample, on the model's device."""
        chosen = torch.from_numpy(rows)
        return self.sample.pixels(chosen).to(self.device), self.sample.labels[chosen].to(self.device)

    def chunks(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cut rows into batches."""
        size = self.settings.batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def generator(self, *labels: str | int) -> torch.Generator:
        """Return a generator of the checks' own."""
        return generator_for(self.settings.seed, "check", self.subject.name, *labels, device=self.device)

    def attack(
        self,
        attack: str,
        rows: NDArray[np.int64] | None = None,
        *,
        mode: str | None = None,
        eps: float | None = None,
        norm: str | None = None,
        target: Target | None = None,
        **options: Any,
    ) -> NDArray[np.bool_]:
        """Attack the subset (or ``rows``) at ``eps`` and say which images still stand, ``bool [len(rows)]``.

        Confirmed like the sweep's own. Kept in the journal, so that checks share what they ask for.
        """
        rows = self.rows if rows is None else rows
        radius = self.eps if eps is None else eps
        stage = Stage(attack, self.mode if mode is None else mode, options)
        chosen, space = target or self.target, norm or self.settings.norm
        identity = (attack, stage.mode, options, radius, space, chosen.draws)
        standing = [np.zeros(0, dtype=bool)]
        for number, members in enumerate(self.chunks(rows)):

            def compute(members: NDArray[np.int64] = members, number: int = number) -> Arrays:
                images, labels = self.batch(members)
                steer, confirm = (
                    self.generator(attack, repr(radius), number, purpose) for purpose in ("steer", "confirm")
                )
                piece = attack_chunk(stage, chosen, images, labels, space, radius, steer, confirm)  # type: ignore[arg-type]
                return {"broken": piece["broken"]}

            key = content_key(self.subject.name, *map(str, identity), members.tolist())
            standing.append(~self.journal.arrays(f"{self.subject.name}-check-{key}", compute)["broken"])
        return np.concatenate(standing)
