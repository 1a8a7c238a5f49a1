"""Which stages of a bundle can run against a model, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resnet_spiking.attacks.bundles import BEST, Stage, stages_for
from resnet_spiking.attacks.gradients.names import make_mode
from resnet_spiking.attacks.gradients.neurons import spiking_neurons
from resnet_spiking.attacks.names import find_attack
from resnet_spiking.attacks.settings import Settings
from resnet_spiking.attacks.subjects import Subject
from resnet_spiking.attacks.target import Target
from resnet_spiking.errors import UserError


@dataclass(frozen=True)
class Plan:
    """What of a bundle runs against one model: ``minimum`` first, then ``stages``; and why the rest is ``skipped``."""

    minimum: Stage | None
    stages: list[Stage]
    skipped: dict[str, str]


def plan_for(subject: Subject, target: Target, settings: Settings, sources: Mapping[str, Target]) -> Plan:
    """Return the stages that model, norm and sources of transfer allow."""
    skipped: dict[str, str] = {}

    def fitting(stages: tuple[Stage, ...]) -> list[Stage]:
        found = []
        for stage in stages_for(stages, spiking=subject.spiking, stochastic=target.stochastic):
            reason = _obstacle(stage, target, settings.norm, sources)
            if reason:
                skipped[stage.label] = reason
            else:
                found.append(stage)
        return found

    wanted = settings.bundle.minimum_norm
    first = fitting((wanted,) if wanted else ())
    return Plan(first[0] if first else None, fitting(settings.bundle.stages), skipped)


def _obstacle(stage: Stage, target: Target, norm: str, sources: Mapping[str, Target]) -> str:
    if norm not in find_attack(stage.attack).norms:
        return f"not defined for {norm}"
    if stage.attack == "transfer" and not sources_of(stage, sources):
        return "no such model among the runs to transfer from"
    if stage.mode != BEST:
        mode = make_mode(stage.mode)
        try:
            with mode.applied(target.model):
                pass
        except UserError as error:
            return str(error)
    return ""


def sources_of(stage: Stage, sources: Mapping[str, Target]) -> dict[str, Target]:
    """Return the models a transfer comes from by name, each under one family of surrogates for every neuron."""
    if stage.source is None:
        return {}
    return {
        name: source.using(make_mode("atan:2" if _replaceable(source) else "own"))
        for name, source in sources.items()
        if (name == "default") == (stage.source == "default")
    }


def _replaceable(source: Target) -> bool:
    try:
        return bool(spiking_neurons(source.model))
    except UserError:
        return False
