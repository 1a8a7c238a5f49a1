"""The table of accuracies: one row for the runs that differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resnet_spiking.errors import UserError, nearest
from resnet_spiking.reports.groups import SHOWN, Group, differing, plain, uneven, usual, varying
from resnet_spiking.reports.statistics import INTERVAL, PAIRED, SPREAD, UNEVEN
from resnet_spiking.reports.table import (
    ABSENT,
    Cell,
    Column,
    Record,
    Table,
    engineering,
    p_value,
    percent,
    plus_minus,
    signed,
)

OPERATIONS = (
    "ACs, MACs: Effective_ACs and Effective_MACs of the head per image (NeuroBench's names); energy: an estimate from "
    "them with 0.9 pJ an AC and 4.6 pJ a MAC (Horowitz, ISSCC 2014, 45 nm)."
)
NETWORKS = "n: seeds; in brackets, the Default networks that they stand on, where fewer."

TRAINING = "training accuracy: of the last epoch, on the augmented images as they were trained on."

HEADINGS = {
    "dataset": "dataset",
    "backbone": "backbone",
    "image_size": "pixels",
    "weights": "weights",
    "freeze_depth": "frozen stages",
    "variant": "variant",
    "mode": "mode",
    "epochs": "epochs",
    "train": "trained",
    "spiking": "spiking",
    "num_steps": "T",
    "encoding": "encoding",
}


@dataclass(frozen=True)
class Figure:
    """One measured column."""

    column: Column
    cell: Callable[[Group], Cell]
    note: str = ""


def _accuracy(group: Group) -> Cell:
    return Cell(plus_minus(group.accuracy.mean, group.accuracy.std), group.accuracy.mean)


def _train_accuracy(group: Group) -> Cell:
    found = group.train_accuracy
    return Cell(ABSENT) if found is None else Cell(percent(found, 1), found)


def _n(group: Group) -> Cell:
    found = group.accuracy.n
    return Cell(f"{found} ({group.networks})" if group.networks < found else str(found), found)


def _interval(group: Group) -> Cell:
    low, high = group.accuracy.low, group.accuracy.high
    return Cell(f"{100 * low:.2f}–{100 * high:.2f} %", low)


def _difference(group: Group) -> Cell:
    if group.difference is None:
        return Cell(ABSENT)
    return Cell(signed(100 * group.difference), group.difference)


def _p(group: Group) -> Cell:
    found = group.versus_default
    return Cell(ABSENT) if found is None else Cell(p_value(found.p), found.p)


def _rate(group: Group) -> Cell:
    return Cell(ABSENT) if group.spike_rate is None else Cell(percent(group.spike_rate, 1), group.spike_rate)


def _operation(name: str, suffix: str = "") -> Callable[[Group], Cell]:
    def cell(group: Group) -> Cell:
        found = group.operations(name)
        return Cell(ABSENT) if found is None else Cell(engineering(found) + suffix, found)

    return cell


def energy_with_stages(group: Group) -> float | None:
    """Return the energy estimate per image [nJ] of the head and the stages that are not frozen."""
    head, stages = group.operations("energy_nJ"), group.operations("energy_nJ", "stages")
    return None if head is None or stages is None else head + stages


def _with_stages(group: Group) -> Cell:
    found = energy_with_stages(group)
    return Cell(ABSENT) if found is None else Cell(f"{engineering(found)} nJ", found)


def _seconds(group: Group) -> Cell:
    return (
        Cell(ABSENT)
        if group.seconds is None
        else Cell(f"{group.seconds:.3g} s" if group.seconds < 1000 else f"{group.seconds:.0f} s", group.seconds)
    )


def _evidence(group: Group) -> Cell:
    if group.evidence is None:
        return Cell(ABSENT)
    return Cell("✓ yes", "yes", state="good") if group.evidence else Cell("✗ no", "no", state="bad")


FIGURES = {
    "n": Figure(Column("n", "n", True), _n, NETWORKS),
    "accuracy": Figure(Column("accuracy", "test accuracy", True), _accuracy, SPREAD),
    "train_accuracy": Figure(Column("train_accuracy", "training accuracy", True), _train_accuracy, TRAINING),
    "interval": Figure(Column("interval", "95 % interval", True), _interval, INTERVAL),
    "difference": Figure(Column("difference", "Δ Default [points]", True), _difference),
    "p": Figure(Column("p", "p", True), _p, PAIRED),
    "spike_rate": Figure(Column("spike_rate", "spike rate", True), _rate),
    "effective_acs": Figure(Column("effective_acs", "ACs", True), _operation("Effective_ACs"), OPERATIONS),
    "effective_macs": Figure(Column("effective_macs", "MACs", True), _operation("Effective_MACs"), OPERATIONS),
    "energy": Figure(Column("energy", "energy", True), _operation("energy_nJ", " nJ"), OPERATIONS),
    "energy_with_stages": Figure(Column("energy_with_stages", "energy with stages", True), _with_stages, OPERATIONS),
    "seconds": Figure(Column("seconds", "training", True), _seconds),
    "spikes": Figure(Column("spikes", "spikes"), _evidence),
}


def accuracy_table(groups: list[Group], columns: tuple[str, ...] = ()) -> Table:
    """Return one row a group; the best mean of each cell (same dataset, frozen network, Default) in bold.

    No row of a cell is, where some stand on other seeds of Default: their means do not compare.

    Args:
        groups: in the order of the rows.
        columns: names from ``HEADINGS`` and ``FIGURES``, or ``settings`` for everything else that varies. Left
            out: all of them, settings that are the same in every row moved to the sentence above the table, and
            measurements that no row has left out.

    Raises:
        UserError: an unknown column.
    """
    known = [*HEADINGS, "settings", *FIGURES]
    for name in columns:
        if name not in known:
            raise UserError(f"unknown column {name!r}{nearest(name, known)}; choose from: {', '.join(known)}")
    normal = usual(groups, varying(groups))
    texts = {name: [plain(group[name]) for group in groups] for name in HEADINGS}
    constant = [name for name in HEADINGS if name != "variant" and len(set(texts[name]) - {ABSENT}) <= 1]
    chosen = list(columns) or [
        *(name for name in HEADINGS if name not in constant),
        *(["settings"] if normal else []),
        *(
            name
            for name, figure in FIGURES.items()
            if any(figure.cell(group).text != ABSENT for group in groups)
            # The stages cost the same under every head; the column says something once they spike.
            and (name != "energy_with_stages" or any(group["spiking"] == "stage" for group in groups))
        ),
    ]
    best = {
        cell: max(round(group.accuracy.mean, 4) for group in groups if group.cell == cell)
        for cell in {group.cell for group in groups}
    }
    alone = {cell for cell in best if sum(group.cell == cell for group in groups) == 1}
    mixed = {cell for cell in best if uneven(group for group in groups if group.cell == cell)}
    rows = []
    for index, group in enumerate(groups):
        row = []
        for name in chosen:
            if name in HEADINGS:
                text = texts[name][index]
                value = group[name] if isinstance(group[name], (int, float)) else None if text == ABSENT else text
                row.append(Cell("Default" if name == "variant" and group.is_default else text, value))
            elif name == "settings":
                row.append(Cell(_unusual(group, normal) or ABSENT))
            else:
                cell = FIGURES[name].cell(group)
                bold = name == "accuracy" and round(group.accuracy.mean, 4) == best[group.cell]
                row.append(Cell(cell.text, cell.value, bold and group.cell not in alone | mixed, cell.state))
        rows.append(row)
    heads = [Column("settings", "other settings") if name == "settings" else
             Column(name, HEADINGS[name], name in ("image_size", "freeze_depth", "num_steps")) if name in HEADINGS
             else FIGURES[name].column for name in chosen]  # fmt: skip
    return Table(
        "accuracy",
        "Accuracy",
        heads,
        rows,
        [record(group) for group in groups],
        common=_common(groups, texts, [name for name in constant if name not in columns], normal),
        notes=[
            *dict.fromkeys(FIGURES[name].note for name in chosen if name in FIGURES and FIGURES[name].note),
            *([UNEVEN] if mixed and "accuracy" in chosen else []),
        ],
    )


def _unusual(group: Group, normal: dict[str, str]) -> str:
    different = [name for name, value in normal.items() if plain(group[name]) != value]
    return differing(group, different)


def _common(groups: list[Group], texts: dict[str, list[str]], constant: list[str], normal: dict[str, str]) -> str:
    shown = []
    for name in constant:
        found = set(texts[name]) - {ABSENT}
        if found:
            shown.append(f"{HEADINGS[name]} {found.pop()}")
    images = sorted({group.rows[0]["test"]["images"] for group in groups})
    if images:
        shown.append("test images " + " or ".join(f"{number:,}" for number in images))
    parts = [f"Every row: {'; '.join(shown)}."] if shown else []
    if normal:
        parts.append(f"Unless said otherwise: {', '.join(f'{name}={value}' for name, value in normal.items())}.")
    return " ".join(parts)


def record(group: Group) -> Record:
    """Return the group's settings and figures in full precision."""
    versus, spread = group.versus_default, group.accuracy
    return {
        **{name: group[name] for name in SHOWN},
        **{name: value for name, value in group.settings.items() if name not in SHOWN and name != "neuron"},
        "n": spread.n,
        "default_networks": group.networks,
        "seeds": [row["seed"] for row in group.rows],
        "head_seeds": [row["config"].get("head_seed") for row in group.rows],
        "test_images": group.rows[0]["test"]["images"],
        "accuracy_mean": spread.mean,
        "accuracy_std": spread.std,
        "accuracy_low": spread.low,
        "accuracy_high": spread.high,
        "train_accuracy": group.train_accuracy,
        "difference": group.difference,
        "better": versus.better if versus else None,
        "worse": versus.worse if versus else None,
        "p": versus.p if versus else None,
        "spike_rate": group.spike_rate,
        **{name: group.operations(name) for name in
           ("Effective_ACs", "Effective_MACs", "Dense", "ActivationSparsity", "MembraneUpdates", "ParameterCount",
            "energy_nJ")},
        "stages_Effective_ACs": group.operations("Effective_ACs", "stages"),
        "stages_Effective_MACs": group.operations("Effective_MACs", "stages"),
        "stages_energy_nJ": group.operations("energy_nJ", "stages"),
        "training_seconds": group.seconds,
        "spikes": group.evidence,
        "keys": [row["key"] for row in group.rows],
    }  # fmt: skip
