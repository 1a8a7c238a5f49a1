"""The bundles: which attacks run, in which order, with what. Data only; ``sweep`` runs them.

An attack is only given images that none before it has broken at this or a smaller eps, so cheap and
strong attacks come first. ``everything=True`` marks the attacks of the literature, which run on every image
that is classified correctly: their figure is what other studies publish.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from resnet_spiking.attacks.gradients.names import GRID
from resnet_spiking.errors import UserError, check_known

Kind = Literal["any", "spiking", "stochastic"]

# The mode of largest margin on the images that every mode before has left.
BEST = "best"
# What the head can be differentiated by besides its surrogates: `expected` when it draws its spikes, else `bptr`.
DIVERSE = "diverse"
# Steps of an attack on what all others have left, as many as the convergence check of `thorough` asks for.
LONG = 1000


@dataclass(frozen=True)
class Stage:
    """One attack of a bundle.

    ``mode`` names a gradient mode (or ``BEST``, ``DIVERSE``); ``options`` are the attack's keywords; ``only``
    says for which models; ``first`` limits the stage to the first so many survivors at each eps; ``source``
    is, for a transfer, ``default`` or ``others``.
    """

    attack: str
    mode: str = "own"
    options: dict[str, Any] = field(default_factory=dict)
    only: Kind = "any"
    first: int | None = None
    everything: bool = False
    source: str | None = None
    copy: int = 0

    @property
    def label(self) -> str:
        """The stage's name in results: attack, gradient mode unless it is the model's own, number of a restart.

        Steps are named where they are not those of a bundle's other stages: of the literature's attacks and of one
        with ``LONG`` or more.
        """
        name = self.attack + (f"+{self.mode}" if self.mode != "own" else "")
        steps = self.options.get("steps", 0)
        name += f"-{steps}" if steps and (self.everything or steps >= LONG) else ""
        name += f" from {self.source}" if self.source else ""
        return name + (f" #{self.copy + 1}" if self.copy else "")


@dataclass(frozen=True)
class Checking:
    """How much the trust checks spend: images of the subset, of the costly checks, and iterations."""

    images: int = 50
    survivors: int = 25
    steps: int = 100
    long_steps: int = 500
    restarts: int = 5
    probes: int = 500
    surrogates: tuple[str, ...] = ("atan:2", "atan:8", "triangle:1")


@dataclass(frozen=True)
class Bundle:
    """A named composition. ``indicative`` marks one whose figures are no claim of robustness.

    ``minimum_norm`` runs first, once for all eps: the images that it finds count as broken at every eps that
    is not below their norm. ``stages`` then run at each eps in order.
    """

    name: str
    summary: str
    stages: tuple[Stage, ...]
    minimum_norm: Stage | None = None
    indicative: bool = False
    checking: Checking = Checking()

    @property
    def description(self) -> str:
        return self.name + (" (indicative, not a robustness claim)" if self.indicative else "")


# What FGSM and PGD-10 with the training surrogate say: the figures of the literature, beside the worst case.
_LITERATURE = (
    Stage("fgsm", everything=True),
    Stage("pgd", options={"steps": 10}, everything=True),
)
_NOISE = Stage("noise", everything=True)


_QUICK = Bundle(
    "quick",
    "minutes: is anything left at all?",
    stages=(
        _NOISE,
        *_LITERATURE,
        Stage("sapgd", "assg", {"steps": 20}),
        Stage("apgd-ce", "atan:2", {"steps": 20}),
    ),
    minimum_norm=Stage("fmn", "atan:2", {"steps": 30}),
    indicative=True,
    checking=Checking(images=20, survivors=10, steps=20, long_steps=100, restarts=2, probes=100),
)

_STANDARD = Bundle(
    "standard",
    "a figure to publish, lean enough for a processor",
    stages=(
        _NOISE,
        *_LITERATURE,
        Stage("sapgd", "assg", {"steps": 100}),
        Stage("apgd-ce", "atan:2", {"steps": 100}),
        Stage("apgd-ce", "atan:8", {"steps": 100}),
        Stage("apgd-ce", "triangle:1", {"steps": 100}),
        Stage("apgd-t", BEST, {"steps": 100, "loss": "margin", "classes": 3}),
        Stage("apgd-margin", DIVERSE, {"steps": 100}, only="spiking"),
        Stage("transfer", source="default"),
        Stage("square", options={"queries": 1000}, first=50),
    ),
    minimum_norm=Stage("fmn", "atan:2", {"steps": 100}),
)

_THOROUGH = Bundle(
    "thorough",
    "everything, with restarts: hours to days",
    stages=(
        _NOISE,
        *_LITERATURE,
        *(Stage("sapgd", "assg", {"steps": 100}, copy=copy) for copy in range(5)),
        *(Stage("apgd-ce", mode, {"steps": 100}) for mode in GRID),
        *(Stage("apgd-dlr", mode, {"steps": 100}) for mode in ("atan:2", "triangle:1")),
        *(Stage("apgd-margin", mode, {"steps": 100}) for mode in ("assg", "atan:2", "triangle:1")),
        *(Stage("apgd-ce", BEST, {"steps": 100}, copy=copy) for copy in range(5)),
        Stage("apgd-ce", BEST, {"steps": LONG}),
        Stage("apgd-t", BEST, {"steps": 100, "loss": "margin", "classes": 9}),
        Stage("apgd-t", BEST, {"steps": 100, "loss": "dlr", "classes": 9}, copy=1),
        *(Stage("apgd-margin", mode, {"steps": 100}, only="spiking") for mode in ("bptr", "rga", "hart", "relu")),
        Stage("apgd-margin", "expected", {"steps": 100}, only="stochastic"),
        Stage("transfer", source="default"),
        Stage("transfer", source="others"),
        Stage("square", options={"queries": 5000}),
    ),
    minimum_norm=Stage("fmn", "atan:2", {"steps": 500}),
    checking=Checking(images=100, survivors=50, long_steps=LONG, probes=1000, surrogates=GRID),
)

BUNDLES = {bundle.name: bundle for bundle in (_QUICK, _STANDARD, _THOROUGH)}


def find_bundle(name: str) -> Bundle:
    """Return the bundle of that name. Raises ``UserError``, naming the nearest, when there is none."""
    check_known("--bundle", name, BUNDLES)
    return BUNDLES[name]


def single(attack: str, mode: str | None = None) -> Bundle:
    """Return a bundle of one attack with its own defaults, for ``--attack``: no claim of robustness either.

    Raises ``UserError``, naming the nearest, for an unknown attack or gradient mode.
    """
    from resnet_spiking.attacks.gradients.names import make_mode
    from resnet_spiking.attacks.names import find_attack

    entry = find_attack(attack)
    make_mode(mode or "own")
    if mode and entry.kind == "black-box":
        raise UserError(f"--gradient {mode} has no use for --attack {attack}, which takes no gradient of the model")
    minimum = entry.kind == "minimum-norm"
    stage = Stage(attack, mode or ("assg" if attack == "sapgd" else "own"))
    stage = Stage(attack, stage.mode, source="default") if attack == "transfer" else stage
    return Bundle(
        attack,
        entry.summary,
        () if minimum else (stage,),
        minimum_norm=stage if minimum else None,
        indicative=True,
        checking=_QUICK.checking,
    )


def stages_for(stages: tuple[Stage, ...], *, spiking: bool, stochastic: bool) -> list[Stage]:
    """Return the stages that concern a model, each once.

    Without spikes every gradient mode is the one true gradient, so stages that differ in nothing else are one.
    """
    found: list[Stage] = []
    for stage in stages:
        if (stage.only == "spiking" and not spiking) or (stage.only == "stochastic" and not stochastic):
            continue
        mode = stage.mode if spiking else "own"
        if mode == DIVERSE:
            mode = "expected" if stochastic else "bptr"
        resolved = replace(stage, mode=mode, only="any")
        if resolved not in found:
            found.append(resolved)
    return found
