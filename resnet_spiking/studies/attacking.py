"""The one place where studies meet attacks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resnet_spiking.attacks.bundles import find_bundle
from resnet_spiking.attacks.evaluation import evaluate
from resnet_spiking.attacks.settings import Settings, make_settings
from resnet_spiking.attacks.subjects import load_sample, load_subjects
from resnet_spiking.environment import Environment
from resnet_spiking.errors import UserError


def attack_settings(block: dict[str, Any]) -> Settings:
    """Return the evaluation's settings for an attack block. Raises ``UserError`` for what no attack can do."""
    return make_settings(
        find_bundle(block["bundle"]),
        block["norm"],
        block["eps"],
        seed=block.get("seed", 0),
        order=block.get("order", "ascending"),
    )


def attack_network(folder: Path, label: str, payload: dict[str, Any], environment: Environment) -> None:
    """Attack one of the runs of the evaluation ``attacks/<label>`` ahead of it, so that workers share its networks.

    The others are what transfers come from. ``attack_networks`` takes over what this leaves below ``parts``.
    """
    output = _parts(folder, label) / payload["network"]
    _attack(folder, payload, output, _kin(folder, label), environment, only=payload["network"])


def attack_networks(folder: Path, label: str, payload: dict[str, Any], environment: Environment) -> Path:
    """Attack finished runs of the study in ``folder`` on the same images; return ``attacks/<label>/result.json``.

    An evaluation that was interrupted continues; one that another version began starts afresh. Networks that
    ``attack_network`` or an earlier evaluation of the study finished on the same terms are taken over: a further one
    costs its own attack.
    """
    output, parts = folder / "attacks" / label, _parts(folder, label)
    _attack(folder, payload, output, [*_finished(parts.glob("*")), *_kin(folder, label)], environment)
    shutil.rmtree(parts, ignore_errors=True)
    return output / "result.json"


def _parts(folder: Path, label: str) -> Path:
    return folder / "attacks" / label / "parts"


def _kin(folder: Path, label: str) -> list[Path]:
    """Return the finished evaluations that differ from ``label`` in nothing but their networks."""
    # A label ends in the key of its networks; what stands before is the same for fewer or more of them.
    alike = (folder / "attacks").glob(f"{label.rpartition('-')[0]}-*")
    return _finished(path for path in alike if path.name != label)


def _run_folder(folder: Path, label: str) -> Path:
    # A run keeps its folder when its dataset gets another name in the study; the key at the label's end stays.
    named = folder / "runs" / label
    alike = sorted((folder / "runs").glob(f"*-{label.rpartition('-')[2]}"))
    return named if named.exists() or not alike else alike[0]


def _finished(folders: Iterable[Path]) -> list[Path]:
    return [path for path in sorted(folders) if (path / "result.json").exists()]


def _attack(
    folder: Path,
    payload: dict[str, Any],
    output: Path,
    reuse: Sequence[Path],
    environment: Environment,
    *,
    only: str | None = None,
) -> None:
    """Attack the runs of ``payload``, or ``only`` one, into ``output``."""
    runs = [_run_folder(folder, run) for run in payload["runs"]]
    subjects, notes = load_subjects(runs)
    for note in notes:
        environment.report(note)
    chosen = None if only is None else str(_run_folder(folder, only))
    names = None if only is None else [subject.name for subject in subjects if subject.run == chosen]
    sample = load_sample(runs[0], payload["samples"], environment.data_dir)
    settings = attack_settings(payload)
    begun = (output / "config.json").exists()
    try:
        evaluate(subjects, sample, settings, output, environment, resume=begun, reuse=reuse, only=names)
    except UserError as error:
        if not begun:
            raise
        environment.report(f"starting afresh: {error}")
        evaluate(subjects, sample, settings, output, environment, overwrite=True, reuse=reuse, only=names)
