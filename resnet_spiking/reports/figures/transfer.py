"""Transfer against scratch: Default on pretrained, frozen stages beside Default trained from random weights."""

from __future__ import annotations

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.palette import style
from resnet_spiking.reports.figures.epochs import Curve, chart_of, curve
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.table import Record

CAPTION = (
    "Default after each epoch with pretrained weights and frozen stages, and from random weights with nothing frozen "
    "(scratch), mean over seeds; band: one sample standard deviation."
)


def draw(digest: Digest) -> Figure:
    """Return one panel for each dataset, backbone and size that has both."""
    sides: dict[str, list[Group]] = {}
    for group in digest.groups:
        if group.is_default:
            sides.setdefault(f"{group['dataset']} · {group['backbone']} · {group['image_size']} px", []).append(group)
    panels: list[Panel] = []
    records: list[Record] = []
    for title, groups in sides.items():
        if len({group["weights"] == "none" for group in groups}) < 2:
            continue
        curves: list[Curve] = []
        for index, group in enumerate(groups):
            label = "scratch" if group["weights"] == "none" else f"transfer, {group['freeze_depth']} stages frozen"
            found = curve(digest, group, f"{label} {group['epochs']}", style(index), "default")
            curves += [found] if found else []
        if curves:
            panels.append(Panel(title, chart_of(title, curves), f"{title} scratch transfer"))
            records += [record for c in curves for record in c.records(title)]
    absent = (
        ""
        if panels
        else "No dataset and backbone has both a pretrained and a from-scratch Default; add a row with weights none "
        f"and freeze depth 0 to the study and run `{STUDY}`."
    )
    return Figure("transfer", "Transfer against scratch", CAPTION, panels, records, absent)
