"""The whole evaluation: every model swept on the same images, compared, checked and written down."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import neurons
from resnet_spiking.attacks.figures import figures_of, paired, trap
from resnet_spiking.attacks.journal import Journal
from resnet_spiking.attacks.long_table import write_csv
from resnet_spiking.attacks.pictures import save_curves, save_panel
from resnet_spiking.attacks.plan import Plan, plan_for
from resnet_spiking.attacks.reuse import finished_models, same_terms
from resnet_spiking.attacks.settings import Settings
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.sweep import Sweep, Watch, sweep
from resnet_spiking.attacks.target import Target, attackable, make_target
from resnet_spiking.attacks.trust.hygiene import hashes
from resnet_spiking.attacks.trust.probe import Probe
from resnet_spiking.attacks.trust.suite import run_checks, unreliable
from resnet_spiking.environment import Environment
from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import file_sha256, remove_temporaries, write_json
from resnet_spiking.storage.provenance import provenance
from resnet_spiking.storage.run_folder import FORMAT, check_output, held_folder, read_json
from resnet_spiking.storage.whereabouts import from_folder, named


def evaluate(
    subjects: Sequence[Subject],
    sample: Sample,
    settings: Settings,
    output: Path,
    environment: Environment | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reuse: Sequence[Path] = (),
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Attack every subject on the same images and return what ``output/result.json`` then holds.

    A subject named ``default`` is what the others are paired with and what transfers come from. Beside the
    result: ``adversarial-<name>.npz`` (see ``Examples``), ``table.csv``, ``curves.png``, ``panel.png``, and until it is
    finished ``state/``, from which ``resume`` continues to the same bits. ``resume`` with further subjects adds
    them: what ``output``, or a folder of ``reuse``, has finished on the same terms is taken over, not attacked again.
    With ``only``, the subjects of these names alone are attacked, and stand in the result; the others are what
    transfers come from. So several processes can share the models, and ``reuse`` puts their results together.

    Raises ``UserError`` for anything the user can put right, before any attack where that is possible;
    ``Interrupted`` when asked to stop, with everything that is finished kept.
    """
    to = environment or Environment()
    _check_subjects(subjects)
    for folder in reuse:
        if not (folder / "result.json").is_file():
            raise UserError(
                f"{folder} holds no finished evaluation to take models from; name a folder with result.json"
            )
    identity = _identity(subjects, sample, settings)
    attacked = _attacked(subjects, only)
    names = [subject.name for subject in attacked]
    finished = _finished(output, identity, names, resume=resume, overwrite=overwrite)
    if finished is not None:
        return finished
    with ExitStack() as stack:
        models = stack.enter_context(_attackable(subjects, to.device))
        before = hashes(models)
        targets = _targets(subjects, sample, settings, to.device)
        plans = _plans(subjects, attacked, targets, settings)
        for folder in reuse:
            if differing := same_terms(read_json(folder / "config.json", "evaluation"), identity):
                to.report(f"{folder}: nothing is taken over, it has other {', '.join(differing)}")
        earlier = finished_models([*([output] if resume else []), *reuse], identity, subjects, plans)
        stack.enter_context(held_folder(output))
        # Another command may have come first.
        finished = _finished(output, identity, names, resume=resume, overwrite=overwrite)
        if finished is not None:
            return finished
        journal = _claim(output, identity, overwrite=overwrite)
        swept: dict[str, Sweep] = {}
        for subject in attacked:
            if subject.name in earlier:
                to.report(f"{subject.name}: finished before, not attacked again")
                swept[subject.name] = Sweep(earlier[subject.name].examples)
                continue
            swept[subject.name] = sweep(
                subject,
                targets[subject.name],
                sample,
                settings,
                journal,
                sources=targets,
                watch=Watch(to.report, _labelled(to, subject.name), to.should_stop),
            )
        entries = []
        pairs = {subject.name: (subject, swept[subject.name]) for subject in attacked}
        for subject in attacked:
            probe = Probe(subject, targets[subject.name], sample, settings, swept[subject.name], journal, pairs)
            done = earlier.get(subject.name)
            entry = dict(done.entry) if done else _entry(subject, targets[subject.name], swept, before, settings)
            entry.pop("mcnemar", None)
            # Where its folder is now: it may have been attacked on another machine.
            entry |= _where(subject, output)
            entry |= _beside(subject, targets, swept)
            began = time.perf_counter()
            entry["checks"] = run_checks(
                probe,
                before,
                known=done.entry["checks"] if done else (),
                progress=_labelled(to, f"checks of {subject.name}"),
                should_stop=to.should_stop,
            )
            entry["seconds"] = entry.get("seconds", 0.0) + time.perf_counter() - began
            entry["unreliable"] = unreliable(entry["checks"])
            entry["checked_at"] = {
                "eps": probe.eps,
                "images": len(probe.rows),
                "survivors_at": settings.eps[probe.radius],
            }
            entries.append(entry)
    return _write(entries, swept, sample, settings, output, to)


def _check_subjects(subjects: Sequence[Subject]) -> None:
    if not subjects:
        raise UserError("there is no model to evaluate; name at least one run")
    if len({subject.name for subject in subjects}) < len(subjects):
        raise UserError("two models have the same name; give each its own")


def _attacked(subjects: Sequence[Subject], only: Collection[str] | None) -> list[Subject]:
    names = [subject.name for subject in subjects]
    if unknown := [name for name in only or () if name not in names]:
        raise UserError(f"no model is called {', '.join(unknown)}; there is {', '.join(names)}")
    found = [subject for subject in subjects if only is None or subject.name in only]
    if not found:
        raise UserError(f"no model is to be attacked; name at least one of {', '.join(names)}")
    return found


def _identity(subjects: Sequence[Subject], sample: Sample, settings: Settings) -> dict[str, Any]:
    """Return what a resumed evaluation must agree in."""
    identity = {
        "format": FORMAT,
        "settings": settings.as_dict(),
        "models": {subject.name: subject.sha256 for subject in subjects},
        "data": sample.data_sha256,
        "indices": hashlib.sha256(sample.indices.numpy().tobytes()).hexdigest(),
        "code": code_sha256(),
    }
    return json.loads(json.dumps(identity))


def _finished(
    output: Path, identity: dict[str, Any], wanted: list[str], *, resume: bool, overwrite: bool
) -> dict[str, Any] | None:
    """Check the folder; return its result when resuming an evaluation that has finished the ``wanted`` models."""
    if resume and overwrite:
        raise UserError("--resume continues an evaluation and --overwrite deletes it: give one of them")
    check_output(output, "evaluation")
    path = output / "config.json"
    if path.exists() and not (resume or overwrite):
        raise UserError(
            f"{output} holds an evaluation already; add --resume to continue it, or --overwrite to replace it"
        )
    if not resume:
        return None
    if not path.exists():
        raise UserError(f"{output} holds no evaluation to resume; leave --resume out to start one")
    differing = same_terms(read_json(path, "evaluation"), identity)
    if differing:
        raise UserError(
            f"{output} was started with other {', '.join(differing)}; use the same options and version, or --overwrite"
        )
    if not (output / "result.json").exists():
        return None
    result = read_json(output / "result.json", "evaluation")
    finished = [entry["name"] for entry in result["models"]]
    absent = [name for name in finished if name not in wanted]
    if absent:
        raise UserError(
            f"{output} holds finished results of {', '.join(absent)} too, which this command does not name; name their "
            "runs as well, or choose another --output-dir"
        )
    # What transfers come from decides too: a model finished beside fewer others may have more attacks to come.
    beside = all(
        entry["others"] == sorted(name for name in identity["models"] if name != entry["name"])
        for entry in result["models"]
    )
    return result if finished == wanted and beside else None


def _claim(output: Path, identity: dict[str, Any], *, overwrite: bool) -> Journal:
    """Make the folder this evaluation's own, and return the journal in it."""
    try:
        if overwrite:
            shutil.rmtree(output / "state", ignore_errors=True)
            for pattern in ("result.json", "table.csv", "curves.png", "panel.png", "adversarial-*.npz"):
                for old in output.glob(pattern):
                    old.unlink()
        # Models that were left out keep their place: their pieces are still there, under these bytes.
        known = (
            read_json(output / "config.json", "evaluation")["models"]
            if (output / "config.json").exists() and not overwrite
            else {}
        )
        remove_temporaries(output)
        write_json(output / "config.json", {**identity, "models": {**known, **identity["models"]}})
        return Journal(output / "state")
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error.strerror}); choose another --output-dir") from None


@contextmanager
def _attackable(subjects: Sequence[Subject], device: torch.device) -> Iterator[dict[str, torch.nn.Module]]:
    with ExitStack() as stack:
        models = {}
        for subject in subjects:
            subject.model.to(device).to(memory_format=torch.channels_last)
            models[subject.name] = stack.enter_context(attackable(subject.model))
        yield models


def _targets(
    subjects: Sequence[Subject], sample: Sample, settings: Settings, device: torch.device
) -> dict[str, Target]:
    targets = {}
    few = sample.pixels(torch.arange(min(8, len(sample)))).to(device)
    for subject in subjects:
        try:
            target = make_target(subject.model, few, draws=settings.draws, votes=settings.votes, rule=settings.rule)
        except UserError as error:
            raise UserError(f"{subject.name}: {error}") from None
        if int(sample.labels.max()) >= target.classes:
            raise UserError(
                f"{subject.name} has {target.classes} classes, but labels go up to {int(sample.labels.max())}; "
                "evaluate it on its own data"
            )
        targets[subject.name] = target
    return targets


def _plans(
    subjects: Sequence[Subject], attacked: Sequence[Subject], targets: dict[str, Target], settings: Settings
) -> dict[str, Plan]:
    """Return what runs against each model.

    Raises ``UserError`` when no stage of the bundle can run against any of those to be attacked, or against some: what
    nothing attacks has no robust accuracy, and nothing can be compared with it.
    """
    plans = {}
    for subject in subjects:
        sources = {name: target for name, target in targets.items() if name != subject.name}
        plans[subject.name] = plan_for(subject, targets[subject.name], settings, sources)
    idle = [s.name for s in attacked if not plans[s.name].minimum and not plans[s.name].stages]
    reasons = {label: reason for name in idle for label, reason in plans[name].skipped.items()}
    why = "; ".join(f"{label}: {reason}" for label, reason in reasons.items())
    if reasons and len(idle) == len(attacked):
        raise UserError(f"nothing can run: {why}")
    if reasons:
        others = ",".join(subject.name for subject in attacked if subject.name not in idle)
        raise UserError(f"nothing can run against {', '.join(idle)} ({why}); leave it out with --only {others}")
    return plans


def _beside(subject: Subject, names: Collection[str], swept: dict[str, Sweep]) -> dict[str, Any]:
    """Return the part of a model's entry that depends on which other models there are: ``names``, of which ``swept``
    have been attacked."""
    found: dict[str, Any] = {"others": sorted(name for name in names if name != subject.name)}
    if "default" in swept and subject.name != "default":
        found["mcnemar"] = paired(swept[subject.name].examples, swept["default"].examples)
    return found


def _where(subject: Subject, output: Path) -> dict[str, str]:
    """Return how the result names the folder of a model's run: as it was given, and the way from the result's."""
    if not subject.run:
        return {"run": ""}
    return {"run": named(Path(subject.run)), "way": from_folder(Path(subject.run), output)}


def _entry(
    subject: Subject, target: Target, swept: dict[str, Sweep], before: dict[str, str], settings: Settings
) -> dict[str, Any]:
    """Return the model's part of the result: what it is, its figures, and what each attack cost."""
    found = swept[subject.name]
    figures = figures_of(found.examples, settings.order)
    stages = found.examples.stages.tolist()
    for radius, row in enumerate(figures["robust"]):
        for stage, own in row["attacks"].items():
            # A minimum-norm attack runs once; its cost stands at the smallest radius.
            spent = found.spent.get((radius, stages.index(stage)))
            own.update(asdict(spent) if spent else {})
    return {
        "name": subject.name,
        "run": subject.run,
        "variant": subject.variant,
        "model_sha256": before[subject.name],
        "stochastic": target.stochastic,
        "spiking": subject.spiking,
        "rule": target.rule,
        "draws": target.draws,
        "votes": target.votes,
        "stages": stages,
        **figures,
        "trap": trap(figures),
        "skipped": found.skipped,
        "devices": found.devices,
        "seconds": sum(spent.seconds for spent in found.spent.values()),
        "details": subject.details,
    }


def _write(
    entries: list[dict[str, Any]],
    swept: dict[str, Sweep],
    sample: Sample,
    settings: Settings,
    output: Path,
    to: Environment,
) -> dict[str, Any]:
    for entry in entries:
        path = output / f"adversarial-{entry['name']}.npz"
        swept[entry["name"]].examples.save(path)
        entry["adversarial"] = {"file": path.name, "sha256": file_sha256(path)}
    origin = provenance(to.device)
    result = {
        "format": FORMAT,
        "norm": settings.norm,
        "eps": list(settings.eps),
        "eps_labels": list(settings.labels),
        "bundle": settings.bundle.name,
        "indicative": settings.bundle.indicative,
        "samples": len(sample),
        "indices": sample.indices.tolist(),
        "labels": sample.labels.tolist(),
        "dataset": sample.dataset,
        "classes": list(sample.images.classes),
        "data_sha256": sample.data_sha256,
        "seed": settings.seed,
        "settings": settings.as_dict(),
        "models": entries,
        "code_sha256": code_sha256(),
        "provenance": origin,
        "seconds": sum(entry["seconds"] for entry in entries),
        "command": origin["command"],
    }
    write_csv(result, output / "table.csv")
    save_curves(result, output / "curves.png")
    save_panel(result, {name: found.examples for name, found in swept.items()}, output / "panel.png")
    write_json(output / "result.json", result)
    shutil.rmtree(output / "state", ignore_errors=True)
    return result


def code_sha256() -> str:
    """Hash the source of the attacks, the networks and the neurons: which implementation a figure comes from."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for folder in (here, here.parent / "network", Path(neurons.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _labelled(to: Environment, label: str) -> Callable[[int, int], None]:
    return lambda done, total: to.progress(label, done, total)
