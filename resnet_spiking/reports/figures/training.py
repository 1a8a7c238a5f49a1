"""Training curves: Default's X epochs, then each branch's Y."""

from __future__ import annotations

from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.figures.epochs import Curve, chart_of, curve
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.table import Record

CAPTION = (
    "Accuracy after each epoch (test accuracy where it was measured every epoch, else training accuracy), mean over "
    "seeds; band: one sample standard deviation; dashed line: where the spiking branch starts."
)


def draw(digest: Digest) -> Figure:
    """Return one panel for each dataset, backbone and way of training."""
    panels: list[Panel] = []
    records: list[Record] = []
    for title, groups in digest.panels.items():
        curves: list[Curve] = []
        start = 0
        for group in groups:
            start = 0 if group.is_default else int(group.rows[0]["config"]["default_epochs"])
            phase = "default" if group.is_default else "spiking"
            found = curve(digest, group, name_of(group.variant), digest.style(group.variant), phase, start)
            curves += [found] if found else []
        if curves:
            panels.append(
                Panel(title, chart_of(title, curves, start or None), f"{title} {' '.join(c.label for c in curves)}")
            )
            records += [record for c in curves for record in c.records(title)]
    absent = "" if panels else f"The results have no curves.jsonl; publish them again with `{STUDY}`."
    return Figure("training", "Training curves", CAPTION, panels, records, absent, digest.left_out)
