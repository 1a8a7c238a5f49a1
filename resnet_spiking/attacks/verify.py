"""Rescore stored adversarial images without attacking, and say whether every figure holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_spiking.attacks.bundles import BUNDLES, stages_for
from resnet_spiking.attacks.chunk import ROUNDING
from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED, Examples
from resnet_spiking.attacks.figures import figures_of, paired, trap
from resnet_spiking.attacks.long_table import csv_text
from resnet_spiking.attacks.names import ATTACKS
from resnet_spiking.attacks.subjects import Sample, Subject, load_sample, load_subjects
from resnet_spiking.attacks.target import Target, attackable, make_target
from resnet_spiking.attacks.threat import parse_eps
from resnet_spiking.attacks.trust.suite import NAMES, unreliable
from resnet_spiking.errors import UserError
from resnet_spiking.randomness import generator_for
from resnet_spiking.storage.comparison import Comparison, exact, same
from resnet_spiking.storage.files import file_sha256
from resnet_spiking.storage.run_folder import read_json
from resnet_spiking.storage.whereabouts import places

BATCH = 100
# A deterministic model on another machine may round a borderline logit the other way.
TOLERANCE = 5e-3
# A stochastic model may take back a verdict, and a borderline one several times.
AGAIN = 5
DOUBTFUL = 1e-2


def verify_result(
    folder: Path,
    *,
    data_dir: Path | None = None,
    weights: str | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Comparison]:
    """Check a result folder against its files, its models and its data.

    Compared: hashes of stored images, models and data; stored clean images with the data; ball, box and
    finiteness; every reported figure with what the table per example says; and clean and adversarial images as the
    model classifies them now, a stochastic one from draws that the evaluation has not seen. A
    stochastic figure agrees within three standard errors of the rescoring, a deterministic one within half a point, and
    no more verdicts than that may have changed, in either direction: of a stochastic model 1 % of the images, by six
    verdicts in a row. The attacks of each model must be those of the named bundle, as this version has it. What the
    trust checks found is read, not measured again: most need attacks.

    Raises ``UserError`` when a file, a run or the data is missing.
    """
    result = read_json(folder / "result.json", "evaluation")
    runs = [_run_of(folder, entry) for entry in result["models"]]
    subjects, _ = load_subjects(runs, weights=weights)
    by_run = {subject.run: subject for subject in subjects}
    sample = load_sample(runs[0], result["samples"], data_dir)
    chosen = [by_run[str(run)] for run in runs]
    return compare(folder, result, chosen, sample, device or torch.device("cpu"), progress)


def _run_of(folder: Path, entry: dict[str, Any]) -> Path:
    """Return where the run of a model lies, as seen from here."""
    sought = places(folder, entry.get("way"), entry["run"])
    found = next((run for run in sought if (run / "result.json").exists()), None)
    if found is None:
        raise UserError(
            f"{folder} is of {entry['name']}, whose run is not in {' or '.join(map(str, sought))}; put it back there"
        )
    return found


def compare(
    folder: Path,
    result: dict[str, Any],
    subjects: Sequence[Subject],
    sample: Sample,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Comparison]:
    """As ``verify_result``, with the models (one per entry of the result, in order) and the images given."""
    rows = [
        exact("data sha256", result["data_sha256"], sample.data_sha256),
        same("indices", result["indices"], sample.indices.tolist()),
        exact("table.csv", _read(folder / "table.csv"), csv_text(result)),
        *_terms(result),
    ]
    tables: dict[str, Examples] = {}
    for entry in result["models"]:
        path = folder / entry["adversarial"]["file"]
        tables[entry["name"]] = Examples.load(path)
        rows.append(exact(f"{entry['name']}: stored images sha256", entry["adversarial"]["sha256"], file_sha256(path)))
    for place, (entry, subject) in enumerate(zip(result["models"], subjects, strict=True)):
        table = tables[entry["name"]]
        rows.append(exact(f"{entry['name']}: model sha256", entry["model_sha256"], subject.sha256))
        rows += _consistent(entry, table, tables.get("default"), result)
        clean = _clean_images(entry["name"], table, sample)
        rows.append(clean)
        if not clean.agrees:
            continue  # what a model says of other images tells nothing, if it takes them at all
        begun = place * len(table)
        total = len(subjects) * len(table)
        rows += _rescored(entry, table, subject, result, device, partial(_tell, progress, begun, total))
    return rows


def _tell(progress: Callable[[int, int], None], begun: int, total: int, done: int) -> None:
    progress(begun + done, total)


def _consistent(
    entry: dict[str, Any], table: Examples, default: Examples | None, result: dict[str, Any]
) -> list[Comparison]:
    """Compare everything that needs no model."""
    name = entry["name"]
    figures = figures_of(table, result["settings"].get("order", "ascending"))
    figures["trap"] = trap(figures)
    figures["unreliable"] = unreliable(entry["checks"])
    if default is not None and name != "default":
        figures["mcnemar"] = paired(table, default)
    rows = [same(f"{name}: {figure}", _without_cost(entry.get(figure)), value) for figure, value in figures.items()]
    rows.append(same(f"{name}: checks", [check["name"] for check in entry["checks"]], list(NAMES)))
    rows.append(same(f"{name}: eps", result["eps"], table.eps.tolist()))
    rows.append(exact(f"{name}: norm", result["norm"], table.norm))
    rows += _bookkeeping(entry, table, _minimum_norm_of(result))
    kept = table.is_broken
    sound = bool(np.isfinite(table.adversarial).all())
    if kept.any():
        sound &= bool((table.distance(result["norm"])[kept] <= table.smallest_eps[kept] + ROUNDING).all())
        sound &= 0 <= float(table.adversarial.min()) and float(table.adversarial.max()) <= 1
    rows.append(exact(f"{name}: ball, box, finite", "inside", "inside" if sound else "outside"))
    return rows


def _minimum_norm_of(result: dict[str, Any]) -> str | None:
    """Return the name of the attack that looks for a minimum norm before all others; None where there is none."""
    bundle = BUNDLES.get(result["bundle"])
    stage = bundle.minimum_norm if bundle else None
    recorded = (result["settings"]["bundle"]["minimum_norm"] or {}).get("attack")
    return stage.attack if stage else recorded


def _bookkeeping(entry: dict[str, Any], table: Examples, minimum_norm: str | None) -> list[Comparison]:
    """Compare what the table says of an image in several places: one figure must follow from another."""
    name, count = entry["name"], len(table.eps)
    kept = table.is_broken
    # It may have been skipped: then another attack stands first.
    nearest = minimum_norm is not None and len(table.stages) > 0 and str(table.stages[0]).startswith(minimum_norm)
    # What it finds of a stochastic model is judged again on the way to a radius, and may stand.
    doubtful = nearest and entry["stochastic"]
    fell = (table.tried[:, 1 if doubtful else 0 :] == BROKEN).any(1)
    first = np.where(fell.any(0), fell.argmax(0), count)
    followed = (first == table.broken) | (doubtful & (table.broken_by == 0) & (table.broken <= first))
    by = np.where(kept, table.tried[np.minimum(table.broken, count - 1), table.broken_by, np.arange(len(table))], 0)
    untried = (table.tried[:, :, ~table.clean_correct] == NOT_TRIED).all()
    agrees = followed.all() and ((by == BROKEN) == kept).all() and ((table.broken_by >= 0) == kept).all()
    rows = [
        exact(f"{name}: who fell, and to what", "as tried", "as tried" if agrees and untried else "otherwise"),
        same(f"{name}: attacks", entry["stages"], table.stages.tolist()),
    ]
    if nearest and not doubtful:
        found, own = table.minimum_norm, kept & (table.broken_by == 0)
        late = table.clean_correct & (np.searchsorted(table.eps, found) < table.broken)
        rows.append(_none(f"{name}: standing within their minimum norm", int(late.sum()), 0))
        other = own & ~np.isclose(found, table.distance(table.norm), rtol=1e-6, atol=ROUNDING)
        rows.append(_none(f"{name}: minimum norms that are not their image's", int(other.sum()), 0))
    return rows


def _none(figure: str, found: int, allowed: int) -> Comparison:
    """Compare a number of images that should be none, of which ``allowed`` are."""
    return Comparison(figure, 0, found, found <= allowed)


def _terms(result: dict[str, Any]) -> list[Comparison]:
    """Compare what a figure is called with what was done."""
    settings = result["settings"]
    bundle = BUNDLES.get(result["bundle"])
    labels = [_radius(label) for label in result["eps_labels"]]
    rows = [
        same("eps of the labels", labels, result["eps"]),
        same("settings.eps", settings["eps"], result["eps"]),
        exact("settings.norm", settings["norm"], result["norm"]),
        exact("settings.bundle", settings["bundle"]["name"], result["bundle"]),
    ]
    if bundle or result["bundle"] in ATTACKS:
        rows.append(exact("indicative", str(result["indicative"]), str(bundle is None or bundle.indicative)))
    if bundle is None:
        return rows
    stages = (*([bundle.minimum_norm] if bundle.minimum_norm else []), *bundle.stages)
    for entry in result["models"]:
        chosen = stages_for(stages, spiking=entry["spiking"], stochastic=entry["stochastic"])
        # A bundle may be another one in another version: then a result is of a bundle that has this name no more.
        planned = sorted(stage.label for stage in chosen)
        done = sorted([*entry["stages"], *entry["skipped"]])
        rows.append(same(f"{entry['name']}: attacks of {result['bundle']}", done, planned))
    return rows


def _radius(label: str) -> float | str:
    try:
        return parse_eps(label)
    except UserError:
        return label


def _clean_images(name: str, table: Examples, sample: Sample) -> Comparison:
    those = np.array_equal(table.images, sample.images.images[sample.indices].numpy())
    those &= np.array_equal(table.label, sample.labels.numpy())
    return exact(f"{name}: clean images", "those of the data", "those of the data" if those else "others")


def _without_cost(figure: Any) -> Any:
    """Return a reported figure without what an attack cost, which the table does not tell."""
    if isinstance(figure, list):
        return [_without_cost(part) for part in figure]
    if not isinstance(figure, dict):
        return figure
    if "tried" in figure:
        return {key: figure[key] for key in ("accuracy", "tried", "overall") if key in figure}
    return {key: _without_cost(value) for key, value in figure.items()}


def _rescored(
    entry: dict[str, Any],
    table: Examples,
    subject: Subject,
    result: dict[str, Any],
    device: torch.device,
    progress: Callable[[int], None],
) -> list[Comparison]:
    """Classify clean and adversarial images again, with independent draws."""
    name = entry["name"]
    model = subject.model.to(device).to(memory_format=torch.channels_last)
    count = len(table)
    clean, standing, predicted = np.zeros(count, bool), np.zeros(count, bool), table.clean_prediction.copy()
    against = {"clean": np.zeros(count, bool), "adversarial": np.zeros(count, bool)}
    with attackable(model):
        images, adversarial = torch.from_numpy(table.clean()), torch.from_numpy(table.adversarial)
        try:
            target = make_target(
                model, images[:8].to(device), draws=entry["draws"], votes=entry["votes"],
                rule=entry["rule"] if entry["stochastic"] else None,
            )  # fmt: skip
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        for start in range(0, count, BATCH):
            part = slice(start, start + BATCH)
            labels = torch.from_numpy(table.label[part]).to(device)
            for kind, pixels, recorded, found in (
                ("clean", images, table.clean_correct, clean),
                ("adversarial", adversarial, table.clean_correct & ~table.is_broken, standing),
            ):
                draw = generator_for(result["seed"], "verify", name, kind, start, device=device)
                batch = pixels[part].to(device)
                found[part] = target.correct(batch, labels, draw).cpu().numpy()
                against[kind][part] = _contradicted(target, batch, labels, recorded[part], found[part], draw)
                if kind == "clean" and not target.stochastic:
                    predicted[part] = target.logits(batch, draw).mean(0).argmax(1).cpu().numpy()
            progress(min(start + BATCH, count))
    # An adversarial image is kept of those that fell; of the others the clean one, which was compared already.
    against["adversarial"] &= table.is_broken
    allowed = max(1, int(DOUBTFUL * count)) if target.stochastic else int(TOLERANCE * count)
    rows = [
        _none(f"{name}: {kind} images with another verdict, rescored", int(found.sum()), allowed)
        for kind, found in against.items()
    ]
    rows.append(
        _none(
            f"{name}: clean images of another class, rescored",
            int((predicted != table.clean_prediction).sum()),
            allowed,
        )
    )
    rows.append(_close(f"{name}: clean accuracy, rescored", table.clean_correct, clean, target.stochastic))
    for radius, label in enumerate(result["eps_labels"]):
        reported = table.surviving(radius)
        # What is broken in the table but classified correctly now still stands.
        again = np.where(table.is_broken & (table.broken <= radius), standing & clean, clean)
        rows.append(_close(f"{name}: accuracy at {label}, rescored", reported, again, target.stochastic))
    return rows


def _contradicted(
    target: Target, images: Tensor, labels: Tensor, recorded: np.ndarray, found: np.ndarray, draw: torch.Generator
) -> np.ndarray:
    """Say which verdicts ``[B]`` are not what was recorded; of a stochastic model, by ``AGAIN`` further ones each."""
    wrong = recorded != found
    for _ in range(AGAIN if target.stochastic else 0):
        rows = wrong.nonzero()[0]
        if len(rows):
            there = torch.from_numpy(rows).to(images.device)
            wrong[rows] = target.correct(images[there], labels[there], draw).cpu().numpy() == found[rows]
    return wrong


def _close(figure: str, recorded: np.ndarray, found: np.ndarray, stochastic: bool) -> Comparison:
    before, now = float(recorded.mean()), float(found.mean())
    # The images whose verdict changed are what noise decides: their number bounds the variance of the difference.
    spread = 3 * math.sqrt(max(1, int((recorded != found).sum()))) / max(1, len(recorded)) if stochastic else 0.0
    return Comparison(figure, before, now, abs(before - now) <= max(TOLERANCE, spread))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return "missing or damaged"
