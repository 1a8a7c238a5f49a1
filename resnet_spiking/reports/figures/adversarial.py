"""Adversarial panels: the images that the attack command drew beside each result."""

from __future__ import annotations

import base64

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.drawing.markup import element
from resnet_spiking.reports.figures.figure import Figure, Panel
from resnet_spiking.reports.table import Record

CAPTION = "Clean images, adversarial images and what was added to them, as the attack wrote them."


def draw(digest: Digest) -> Figure:
    """Return one image for each attack result that has a panel.png."""
    panels: list[Panel] = []
    records: list[Record] = []
    for label, result in digest.results.attacks.items():
        if result["panel"] is None:
            continue
        models = ", ".join(name_of(model["name"]) for model in result["models"])
        alt = (
            f"Clean and adversarial {result['dataset']} images of {label}: {result['norm']}, bundle "
            f"{result['bundle']}, ε {', '.join(result['eps_labels'])}, models {models}"
        )
        source = "data:image/png;base64," + base64.b64encode(result["panel"]).decode()
        panels.append(Panel(label, element("img", src=source, alt=alt, class_="wide"), alt))
        records.append({"result": label, "norm": result["norm"], "bundle": result["bundle"], "models": models,
                        "eps_labels": result["eps_labels"], "command": result["command"]})  # fmt: skip
    absent = (
        "" if panels else "No attack result has a panel.png; attack a run with `python -m resnet_spiking.attack RUN`."
    )
    return Figure("adversarial", "Adversarial images", CAPTION, panels, records, absent)
