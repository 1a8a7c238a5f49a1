"""Sweeps: groups that differ in one setting alone, found among the rows."""

from __future__ import annotations

import json
from typing import Any

from resnet_spiking.config import BRANCH_ONLY
from resnet_spiking.reports.digest import Digest, name_of
from resnet_spiking.reports.drawing.chart import Axis, Chart, Series
from resnet_spiking.reports.drawing.markup import Markup
from resnet_spiking.reports.drawing.scale import padded
from resnet_spiking.reports.figures.figure import STUDY, Figure, Panel
from resnet_spiking.reports.groups import Group, plain
from resnet_spiking.reports.table import Record

CAPTION = (
    "Test accuracy when one setting changes and every other stays, which all lines of a panel share; mark: mean over "
    "seeds; bar or band: 95 % interval (Student's t over seeds, for one seed Wilson's)."
)
BANDS = 3
"""More bands in one panel than this hide each other."""
NOT_SWEPT = {"neuron", "dataset", "backbone", "variant", "epochs", "weights", "mode"}


def draw(digest: Digest) -> Figure:
    """Return one panel for each swept setting, dataset and backbone."""
    names = dict.fromkeys(name for group in digest.groups for name in group.settings if name not in NOT_SWEPT)
    panels: list[Panel] = []
    records: list[Record] = []
    for name in names:
        for title, lines in _sweeps(digest.groups, name).items():
            panels.append(
                Panel(f"{name} {title}", _chart(digest, name, title, lines), f"{name} {title} {' '.join(lines)}")
            )
            records += [_record(name, title, group) for groups in lines.values() for group in groups]
    absent = (
        ""
        if panels
        else f"No setting has two values with all others equal; add a list of values to the study: `{STUDY}`."
    )
    return Figure("sweeps", "What drives accuracy", CAPTION, panels, records, absent)


def _sweeps(groups: list[Group], name: str) -> dict[str, dict[str, list[Group]]]:
    """Return panel title → variant → its groups by value of ``name``.

    All else is equal in a panel. Of the series that could fill one, those with most points come first; one that would
    show nothing but variants that stand in another one already is left out.
    """
    places: dict[str, dict[tuple[str, str], dict[str, list[Group]]]] = {}
    for group in groups:
        if group[name] is None and name not in ("alpha",):
            continue
        title = f"{group['dataset']} · {group['backbone']} · {group['image_size']} px"
        alike = places.setdefault(title, {}).setdefault(_rest(group, name), {})
        alike.setdefault(group.variant, []).append(group)
    found: dict[str, dict[str, list[Group]]] = {}
    for title, settings in places.items():
        shown: list[dict[str, list[Group]]] = []
        for (network, branch), alike in settings.items():
            # Default has no branch: it stands beside every branch of its own.
            beside = settings.get((network, ""), {}) if branch else {}
            lines = {variant: members for variant, members in {**beside, **alike}.items() if len(members) > 1}
            shown += [lines] if lines else []
        shown.sort(key=lambda lines: sum(map(len, lines.values())), reverse=True)
        kept = [lines for i, lines in enumerate(shown) if lines.keys() - {v for before in shown[:i] for v in before}]
        first = [list(lines.values())[-1][0] for lines in kept]
        others = _others(first[0], name) if kept else []
        differ = [key for key in others if len({plain(group[key]) for group in first}) > 1]
        for lines, group in zip(kept, first, strict=True):
            parts = [title, *(f"{key.replace('_', ' ')} {plain(group[key])}" for key in differ)]
            found[" · ".join(parts)] = lines
    return found


def _others(group: Group, name: str) -> list[str]:
    """Return the settings that stay where ``name`` is swept.

    The label <X,Y> follows from the epochs, and whether these are swept is said by them.
    """
    return [key for key in group.settings if key not in (name, "epochs", "neuron", "variant")]


def _rest(group: Group, name: str) -> tuple[str, str]:
    """Return what stays of the network, and of the branch; empty for Default, which has none."""
    of_branch = {*BRANCH_ONLY, "mode", "spiking"}
    parts = [
        {key: group[key] for key in _others(group, name) if (key in of_branch) is inside} for inside in (False, True)
    ]
    network, branch = (json.dumps(part, sort_keys=True, default=str) for part in parts)
    return network, "" if group.is_default else branch


def _chart(digest: Digest, name: str, title: str, lines: dict[str, list[Group]]) -> Markup:
    values = {json.dumps(group[name]): group[name] for groups in lines.values() for group in groups}
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values.values())
    ordered = sorted(values.values()) if numeric else sorted(values.values(), key=_in_order)
    log = numeric and ordered[0] > 0 and ordered[-1] / ordered[0] >= 10
    place = {json.dumps(v): float(v) if numeric else float(i) for i, v in enumerate(ordered)}
    at = list(place.values()) if len(place) <= 8 else None
    texts = {place[json.dumps(v)]: plain(v) for v in ordered}
    low, high = (at or [min(place.values()), max(place.values())])[0], max(place.values())
    span = (low / 1.15, high * 1.15) if log else padded([low, high], 0.1)
    bounds = [100 * v for gs in lines.values() for g in gs for v in (max(0, g.accuracy.low), min(1, g.accuracy.high))]
    label = {"num_steps": "T (time steps)"}.get(name, name.replace("_", " "))
    words = "; ".join(
        f"{name_of(variant)}: " + ", ".join(f"{plain(g[name])} gives {100 * g.accuracy.mean:.2f} %" for g in groups)
        for variant, groups in lines.items()
    )
    chart = Chart(
        f"{label}: {title}", words, Axis(label, *span, lambda v: texts.get(v, f"{v:g}"), log=log, at=at),
        Axis("test accuracy [%]", *padded(bounds, floor=0, ceiling=100)),
    )  # fmt: skip
    for variant, groups in lines.items():
        members = sorted(groups, key=lambda group: place[json.dumps(group[name])])
        x, mean = [place[json.dumps(g[name])] for g in members], [100 * g.accuracy.mean for g in members]
        lows, highs = [100 * g.accuracy.low for g in members], [100 * g.accuracy.high for g in members]
        tips = [f"{name_of(variant)}, {label} {plain(g[name])}: {m:.2f} %, n = {g.accuracy.n}"
                for g, m in zip(members, mean, strict=True)]  # fmt: skip
        look = digest.style(variant)
        if numeric:
            chart.line(Series(name_of(variant), x, mean, look, lows, highs, tips), band=len(lines) <= BANDS)
        else:
            shift = 0.06 * (list(lines).index(variant) - (len(lines) - 1) / 2)
            chart.points(Series(name_of(variant), [v + shift for v in x], mean, look, lows, highs, tips))
    return chart.svg()


def _in_order(value: Any) -> tuple[Any, ...]:
    """Sort widths by how many layers they are and how wide, words by the alphabet."""
    return (len(value), value, "") if isinstance(value, list) else (0, [], plain(value))


def _record(name: str, title: str, group: Group) -> Record:
    return {
        "setting": name,
        "panel": title,
        "variant": group.variant,
        "value": plain(group[name]),
        "n": group.accuracy.n,
        "accuracy_mean": group.accuracy.mean,
        "accuracy_std": group.accuracy.std,
        "accuracy_low": group.accuracy.low,
        "accuracy_high": group.accuracy.high,
    }
