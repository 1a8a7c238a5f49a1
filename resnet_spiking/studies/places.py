"""Where a study's datasets and weights lie on this machine, as the command line says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError, nearest
from resnet_spiking.studies.study_file import DatasetEntry, Study


def with_places(study: Study, data_dirs: Iterable[str], weights: Iterable[str]) -> Study:
    """Return the study with ``NAME=PATH`` of the command line in place of the file's.

    A dataset whose folder holds ``train/`` and ``test/`` is read as an image folder.

    Raises ``UserError`` for names that the study lacks, and for a place of the digits that holds no images.
    """
    used = {str(name) for grid in study.grids for name in grid["dataset"]}
    datasets = dict(study.datasets)
    for name, place in (_split(text, "--data-dir", "cifar10=CIFAR10") for text in data_dirs):
        if name not in used:
            known = sorted(used)
            raise UserError(
                f"--data-dir: no dataset {name!r} in this study{nearest(name, known)}; it has {', '.join(known)}"
            )
        entry = datasets.get(name) or DatasetEntry(name)
        folder = Path(place)
        pictures = all((folder / split).is_dir() for split in ("train", "test"))
        if entry.kind == "digits" and not pictures:
            raise UserError(
                f"--data-dir {name}={place}: digits come with scikit-learn; leave it out, or name a folder of pictures "
                "(train/<class>/… and test/<class>/…)"
            )
        datasets[name] = replace(entry, data_dir=folder, kind="folder" if pictures else entry.kind)
    backbones = sorted({str(name) for grid in study.grids for name in grid.get("backbone", (RunConfig().backbone,))})
    places = dict(study.weights)
    for name, place in (_split(text, "--weights", "resnet18=FILE") for text in weights):
        if name not in backbones:
            raise UserError(
                f"--weights: this study has no backbone {name!r}{nearest(name, backbones)}; "
                f"it has {', '.join(backbones)}"
            )
        places[name] = place
    return replace(study, datasets=datasets, weights=places)


def _split(text: str, option: str, example: str) -> tuple[str, str]:
    name, separator, place = text.partition("=")
    if not separator or not name or not place:
        raise UserError(f"{option} {text!r} is malformed; give NAME=PLACE, such as {example}")
    return name, place


def absolute(study: Study) -> Study:
    """Return the study with every path made absolute: the nodes of a cluster work in folders of their own."""

    def resolved(place: object) -> object:
        return str(Path(place).resolve()) if isinstance(place, str) and Path(place).is_file() else place

    datasets = {
        name: replace(entry, data_dir=entry.data_dir.resolve() if entry.data_dir else None)
        for name, entry in study.datasets.items()
    }
    weights = {backbone: str(resolved(place)) for backbone, place in study.weights.items()}
    grids = tuple(
        {axis: tuple(map(resolved, values)) if axis == "weights" else values for axis, values in grid.items()}
        for grid in study.grids
    )
    return replace(study, datasets=datasets, weights=weights, grids=grids)  # type: ignore[arg-type]
