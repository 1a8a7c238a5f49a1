"""The one place where studies meet attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_spiking.attacks.bundles import find_bundle
from resnet_spiking.attacks.evaluation import Attacker, evaluate
from resnet_spiking.attacks.settings import Settings, make_settings
from resnet_spiking.attacks.subjects import load_sample, load_subjects
from resnet_spiking.errors import UserError
from resnet_spiking.training.environment import Environment


def attack_settings(block: dict[str, Any]) -> Settings:
    """Return the evaluation's settings for an attack block. Raises ``UserError`` for what no attack can do."""
    return make_settings(find_bundle(block["bundle"]), block["norm"], block["eps"], seed=block.get("seed", 0))


def attack_networks(folder: Path, label: str, payload: dict[str, Any], environment: Environment) -> Path:
    """Attack finished runs of the study in ``folder`` on the same images; return ``attacks/<label>/result.json``.

    An evaluation that was interrupted continues; one that another version began starts afresh. Networks that an
    earlier evaluation of the study finished on the same terms are taken over: a further one costs its own attack.
    """
    runs = [folder / "runs" / run for run in payload["runs"]]
    subjects, notes = load_subjects(runs)
    for note in notes:
        environment.report(note)
    sample = load_sample(runs[0], payload["samples"], environment.data_dir)
    settings = attack_settings(payload)
    output = folder / "attacks" / label
    # A label ends in the key of its networks; what stands before is the same for fewer or more of them.
    kin = [
        path
        for path in sorted(output.parent.glob(f"{label.rpartition('-')[0]}-*"))
        if path != output and (path / "result.json").exists()
    ]
    attacker = Attacker(environment.device, environment.report, environment.progress, environment.should_stop)
    begun = (output / "config.json").exists()
    try:
        evaluate(subjects, sample, settings, output, attacker, resume=begun, reuse=kin)
    except UserError as error:
        if not begun:
            raise
        environment.report(f"starting afresh: {error}")
        evaluate(subjects, sample, settings, output, attacker, overwrite=True, reuse=kin)
    return output / "result.json"
