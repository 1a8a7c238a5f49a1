"""From the table per example to every reported figure: one way, for evaluating and for verifying."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_spiking.attacks.examples import BROKEN, NOT_TRIED, Examples
from resnet_spiking.attacks.minimum import median
from resnet_spiking.proportions import mcnemar, wilson


def figures_of(examples: Examples, order: str = "ascending") -> dict[str, Any]:
    """Return clean and robust accuracy with 95 % Wilson intervals, each attack's own figure, the median norm.

    Robust accuracy ``A(eps) = 1/N sum 1[clean correct and no attack broke it at any radius up to eps]``; the
    denominator is all N images. ``attacks``: ``accuracy`` of that attack alone among the ``tried`` images; with
    ``overall``, the accuracy on all N images, for attacks that tried every image that is correct.
    ``minimum_norm``: the median over the ``of`` images that are correct, None when most were not ``found``.
    With the radii in descending ``order`` each robust accuracy says how many images were ``inferred``.
    """
    count = len(examples)
    robust = []
    for radius, eps in enumerate(examples.eps.tolist()):
        survivors = int(examples.surviving(radius).sum())
        row = {"eps": eps, **_proportion(survivors, count), "attacks": _own_figures(examples, radius)}
        robust.append(row | ({"inferred": int(examples.inferred(radius).sum())} if order == "descending" else {}))
    correct = int(examples.clean_correct.sum())
    found: dict[str, Any] = {"clean": _proportion(correct, count), "robust": robust}
    if len(examples.stages) and np.isfinite(examples.minimum_norm).any():
        norms = examples.minimum_norm[examples.clean_correct].tolist()
        found["minimum_norm"] = {
            "attack": str(examples.stages[0]),
            "median": median(norms),
            "found": int(np.isfinite(norms).sum()),
            "of": correct,
        }
    return found


def paired(examples: Examples, default: Examples) -> list[dict[str, Any]]:
    """Return McNemar's exact test against Default at each radius: on how many images only this model (``better``)
    or only Default (``worse``) is still right, and the two-sided p value. The images are the same."""
    rows = []
    for radius, eps in enumerate(examples.eps.tolist()):
        mine, theirs = examples.surviving(radius), default.surviving(radius)
        better, worse = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
        rows.append({"eps": eps, "better": better, "worse": worse, "p": mcnemar(better, worse)})
    return rows


def trap(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, per radius, the accuracy that FGSM and PGD-10 with the training surrogate alone would have
    reported, and by how much that is above the worst case of the bundle."""
    rows = []
    for row in figures["robust"]:
        literature = {
            stage: own["overall"]
            for stage, own in row["attacks"].items()
            if stage.split("-")[0] in ("fgsm", "pgd") and "+" not in stage and "overall" in own
        }
        if literature:
            gap = min(literature.values()) - row["accuracy"]
            rows.append({"eps": row["eps"], **literature, "bundle": row["accuracy"], "overstated": gap})
    return rows


def _own_figures(examples: Examples, radius: int) -> dict[str, dict[str, Any]]:
    own = {}
    for stage, outcomes in zip(examples.stages.tolist(), examples.tried[radius], strict=True):
        tried, broken = int((outcomes != NOT_TRIED).sum()), int((outcomes == BROKEN).sum())
        if tried:
            figure: dict[str, Any] = {"accuracy": (tried - broken) / tried, "tried": tried}
            if bool((outcomes[examples.clean_correct] != NOT_TRIED).all()):
                figure["overall"] = (tried - broken) / len(examples)
            own[stage] = figure
    return own


def _proportion(successes: int, trials: int) -> dict[str, Any]:
    return {"accuracy": successes / trials if trials else 0.0, "interval": list(wilson(successes, trials))}
