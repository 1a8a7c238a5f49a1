"""Accuracy against spike rate: what a spike buys."""

from __future__ import annotations

from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import Axis, Chart, Series
from resnet_spiking.reports.drawing.scale import padded
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.groups import Group
from resnet_spiking.reports.table import Record, percent

CAPTION = (
    "Test accuracy against spikes per neuron and step, averaged over layers and seeds; bars: 95 % interval of the "
    "accuracy; dashed line: Default, which has no spikes. Further left is cheaper."
)


def draw(digest: Digest) -> Figure:
    """Return one panel for each dataset, backbone and way of training that has spiking groups."""
    panels, records = [], []
    for title, groups in digest.panels.items():
        spiking = [group for group in groups if group.spike_rate is not None]
        if spiking:
            panels.append(_panel(digest, title, groups, spiking))
            records += [_record(title, group) for group in spiking]
    absent = "" if panels else f"No run here has spiking layers; add neurons to the study and run `{STUDY}`."
    return Figure("spike-rate", "Accuracy against spike rate", CAPTION, panels, records, absent, digest.left_out)


def _panel(digest: Digest, title: str, groups: list[Group], spiking: list[Group]) -> Panel:
    rates = [100 * (group.spike_rate or 0) for group in spiking]
    bounds = [100 * v for group in groups for v in (max(0, group.accuracy.low), min(1, group.accuracy.high))]
    words = "; ".join(
        f"{g.variant} {percent(g.spike_rate or 0, 1)} of steps, {percent(g.accuracy.mean)}" for g in spiking
    )
    chart = Chart(
        title, words, Axis("spikes per neuron and step [%]", *padded([0, *rates], floor=0, ceiling=100)),
        Axis("test accuracy [%]", *padded(bounds, floor=0, ceiling=100)),
    )  # fmt: skip
    if groups[0].is_default:
        chart.level(100 * groups[0].accuracy.mean)
    for rate, group in zip(rates, spiking, strict=True):
        low, mean, high = (100 * v for v in (group.accuracy.low, group.accuracy.mean, group.accuracy.high))
        tip = f"{group.variant}: {mean:.2f} % at {rate:.1f} % spikes"
        chart.points(Series(group.variant, [rate], [mean], digest.style(group.variant), [low], [high], [tip]))
    return Panel(title, chart.svg(), " ".join([title, *(group.variant for group in spiking)]))


def _record(title: str, group: Group) -> Record:
    return {
        "panel": title,
        "variant": group.variant,
        "spike_rate": group.spike_rate,
        "accuracy_mean": group.accuracy.mean,
        "accuracy_low": group.accuracy.low,
        "accuracy_high": group.accuracy.high,
        "n": group.accuracy.n,
    }
