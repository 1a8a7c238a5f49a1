"""Models that an earlier evaluation has finished: taken over, not attacked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_spiking.attacks.examples import Examples
from resnet_spiking.attacks.plan import Plan
from resnet_spiking.attacks.subjects import Subject
from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.storage.run_folder import read_json


@dataclass(frozen=True)
class Finished:
    """A model's part of an earlier result, and what became of its images."""

    entry: dict[str, Any]
    examples: Examples


def same_terms(stored: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Return in what two evaluations differ, besides the models that only one of them has."""
    differing = [name for name, value in identity.items() if name != "models" and stored.get(name) != value]
    theirs, ours = stored.get("models", {}), identity["models"]
    differing += [f"model {name!r}" for name in ours if name in theirs and theirs[name] != ours[name]]
    return differing


def finished_models(
    folders: Iterable[Path], identity: Mapping[str, Any], subjects: Sequence[Subject], plans: Mapping[str, Plan]
) -> dict[str, Finished]:
    """Return the models, by name, that one of the evaluations in ``folders`` finished on the same terms.

    The same settings, images, code and bytes of the model, and the same attacks: a model whose attacks depend on
    which other models there are (transfers) is taken over only when the change does not touch them.

    Raises ``UserError`` when stored images are missing or damaged.
    """
    names = sorted(subject.name for subject in subjects)
    found: dict[str, Finished] = {}
    for folder in folders:
        if not (folder / "result.json").exists() or same_terms(
            read_json(folder / "config.json", "evaluation"), identity
        ):
            continue
        for entry in read_json(folder / "result.json", "evaluation")["models"]:
            name = entry["name"]
            if name in found or name not in names or not _same_attacks(entry, plans[name], names):
                continue
            path = folder / entry["adversarial"]["file"]
            if not path.exists() or file_sha256(path) != entry["adversarial"]["sha256"]:
                raise UserError(f"{path} is missing or is not what {folder}/result.json says; attack with --overwrite")
            found[name] = Finished(entry, Examples.load(path))
    return found


def _same_attacks(entry: Mapping[str, Any], plan: Plan, names: Sequence[str]) -> bool:
    stages = ([plan.minimum] if plan.minimum else []) + plan.stages
    if entry["stages"] != [stage.label for stage in stages]:
        return False
    others = [name for name in names if name != entry["name"]]
    return entry["others"] == others or not any(stage.source == "others" for stage in stages)
