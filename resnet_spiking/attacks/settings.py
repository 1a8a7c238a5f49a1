"""Everything that decides an evaluation's figures, the models and the images aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from resnet_spiking.attacks.bundles import Bundle
from resnet_spiking.attacks.names import ORDERS, Norm, Order
from resnet_spiking.attacks.target import RULES, Rule
from resnet_spiking.attacks.threat import Threat, parse_eps
from resnet_spiking.config import LARGEST_BATCH
from resnet_spiking.errors import UserError, check_known


@dataclass(frozen=True)
class Settings:
    """``eps`` ascending, in pixels of [0, 1], with ``labels`` as the user wrote them.

    ``order`` in which the radii are attacked. Ascending: radius by radius, every image that none smaller has broken.
    Descending: attack by attack, each image at the largest radius where it is not known to fall, then, while it falls,
    at the next smaller one; an image that stands at a radius is taken to stand at every smaller one, whose ball lies
    inside. An attack that succeeds stops early and one that fails spends all its iterations, so an image costs an
    attack one failure instead of one a radius; and images at different radii share a batch (see ``descend``).

    ``draws`` of a stochastic model steer an attack, ``votes`` independent ones decide; ``rule`` None means
    ``majority`` for stochastic models and is without meaning for the others.

    Raises ``UserError`` for a radius that is no radius, in no ascending order, and for counts out of range.
    """

    bundle: Bundle
    norm: Norm
    eps: tuple[float, ...]
    labels: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = 64
    rule: Rule | None = None
    draws: int = 20
    votes: int = 20
    order: Order = "ascending"

    def __post_init__(self) -> None:
        for eps in self.eps:
            Threat(self.norm, eps)
        if not self.eps or list(self.eps) != sorted(set(self.eps)):
            given = ", ".join(self.labels or map(str, self.eps))
            raise UserError(f"--eps must name distinct radii in ascending order, not {given or 'none'}")
        if not self.labels:
            object.__setattr__(self, "labels", tuple(str(eps) for eps in self.eps))
        for option, value in (("batch-size", self.batch_size), ("draws", self.draws), ("votes", self.votes)):
            if not 1 <= value <= LARGEST_BATCH:
                raise UserError(f"--{option} must lie between 1 and {LARGEST_BATCH}, not {value}")
        if self.rule is not None:
            check_known("--rule", self.rule, RULES)
        check_known("--order", self.order, ORDERS)
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed must lie between 0 and {2**63 - 1}, not {self.seed}")

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary: what a resumed evaluation must agree in, and a result records."""
        stages = [asdict(stage) for stage in self.bundle.stages]
        minimum = asdict(self.bundle.minimum_norm) if self.bundle.minimum_norm else None
        bundle = {"name": self.bundle.name, "minimum_norm": minimum, "stages": stages}
        checking = asdict(self.bundle.checking)
        own = asdict(replace(self, bundle=_NONE))
        lists = {name: list(own[name]) for name in ("eps", "labels")}
        checking["surrogates"] = list(checking["surrogates"])
        return {**own, **lists, "bundle": {**bundle, "checking": checking}}


def make_settings(bundle: Bundle, norm: str, radii: Sequence[str], **others: Any) -> Settings:
    """Return settings from the words of a command line: radii such as ``8/255``; duplicates count once.

    Raises ``UserError`` for a malformed radius, an unknown norm or rule, and counts out of range.
    """
    words = {text.strip(): parse_eps(text) for text in radii}
    ordered = sorted(words, key=lambda text: words[text])
    return Settings(bundle, norm, tuple(words[text] for text in ordered), tuple(ordered), **others)  # type: ignore[arg-type]


_NONE = Bundle("", "", ())
