"""All checks in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resnet_spiking.attacks.interrupt import stoppable
from resnet_spiking.attacks.trust import (
    blackbox,
    bounds,
    controls,
    convergence,
    gradients,
    hygiene,
    ordering,
    randomness,
    surrogates,
)
from resnet_spiking.attacks.trust.probe import Probe

CHECKS: tuple[Callable[[Probe], Any], ...] = (
    bounds.clean_replay,
    bounds.bounds,
    bounds.eight_bits,
    ordering.noise_floor,
    ordering.more_steps,
    ordering.monotone,
    ordering.unbounded,
    convergence.converged,
    gradients.zero_gradient,
    gradients.saturation,
    blackbox.gradients_win,
    surrogates.sensitivity,
    surrogates.own_surrogate,
    surrogates.other_modes,
    gradients.finite_difference,
    randomness.declared,
    randomness.averaged,
    blackbox.transfer_from_twin,
    hygiene.silent_success,
    hygiene.state_leak,
    controls.undefended,
    gradients.unstable,
    hygiene.precision,
)

NAMES = tuple(f"T{number:02d}" for number in range(1, len(CHECKS) + 2))
"""The names of all verdicts; the last one, on the models' modes, is given when all others are."""

# What these find depends on which other models there are.
COMPARING = (blackbox.transfer_from_twin, controls.undefended)


def run_checks(
    probe: Probe,
    before: Mapping[str, str],
    *,
    known: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Return the verdicts T01 to T24 of one model, JSON-ready.

    ``before`` holds each model's hash from before the sweep. Finished checks are read back from the probe's journal;
    those of an earlier evaluation that ``known`` holds are taken over, except where they look at other models.

    Raises ``Interrupted`` when asked to stop; call it inside ``attackable(probe.subject.model)``.
    """
    found: list[dict[str, Any]] = []
    total = len(NAMES)
    done = {str(check["name"]): dict(check) for check in known}
    with stoppable(should_stop, probe.subject.model, probe.target.climbed):
        for number, (name, check) in enumerate(zip(NAMES, CHECKS, strict=False), 1):
            if check in COMPARING:
                found.append(check(probe).as_dict())
            elif name in done:
                found.append(done[name])
            else:
                found.append(probe.value(name, lambda check=check: check(probe).as_dict()))  # type: ignore[misc]
            progress(number, total)
    found.append(hygiene.eval_mode(probe, before).as_dict())
    progress(total, total)
    return found


def unreliable(checks: list[dict[str, Any]]) -> list[str]:
    """Return the names of the checks that failed: what a result is stamped with."""
    return [check["name"] for check in checks if check["passed"] is False]
