"""The table of pairs: do two neurons on the same Default differ by more than their seeds?"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from resnet_spiking.errors import UserError
from resnet_spiking.reports.groups import Group, differing, plain, varying
from resnet_spiking.reports.results import Results, Row
from resnet_spiking.reports.statistics import half_interval, paired
from resnet_spiking.reports.table import ABSENT, Cell, Column, Record, Table, p_value, percent, signed
from resnet_spiking.reports.tables.accuracy import HEADINGS

NOTES = [
    "Difference: mean over the seeds that both have of first minus second, in points, with Student's 95 % interval of "
    "the paired differences.",
    "Same answer: share of the test images that both name the same class, whether right or wrong; same runs: seeds in "
    "which they do so on every image.",
    "p: exact two-sided sign-flip test of the difference over the images; what the seeds say of one image is not taken "
    "apart. With one seed, McNemar's exact test. Not corrected for the number of rows.",
]
COLUMNS = [
    Column("first", "first"),
    Column("second", "second"),
    Column("n", "n", True),
    Column("difference", "difference [points]", True),
    Column("interval", "95 % interval", True),
    Column("agreement", "same answer", True),
    Column("identical", "same runs", True),
    Column("p", "p", True),
]


def pairs_table(groups: list[Group], against: tuple[str, ...] = ()) -> Table:
    """Return a row for each two of the groups that stand on one Default network and share seeds.

    For seeds i with accuracies a_i and b_i: d = mean(a_i - b_i), with the interval
    d ± t_{0.975, n-1} s / sqrt(n), s the sample standard deviation of the differences; none for one seed.

    Args:
        groups: what is compared; Default is left out.
        against: variants of which every pair must have one.

    Raises:
        UserError: no two groups can be compared, or predictions were not published.
    """
    compared = [group for group in groups if not group.is_default]
    names = _names(compared)
    rows, records = [], []
    for (one, first), (other, second) in combinations(zip(names, compared, strict=True), 2):
        if first.cell != second.cell or (against and not {first.variant, second.variant} & set(against)):
            continue
        ours, theirs = _by_seed(first), _by_seed(second)
        pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
        if pairs:
            record = _record(first.results, pairs)
            rows.append(_row(one, other, record))
            records.append({"first": one, "second": other, **record})
    if not rows:
        raise UserError("no two of these groups stand on one Default and share a seed; name fewer settings")
    return Table("pairs", "Pairs on one Default", COLUMNS, rows, records, notes=NOTES)


def _record(results: Results, pairs: list[tuple[Row, Row]]) -> Record:
    gains = [one["test"]["accuracy"] - other["test"]["accuracy"] for one, other in pairs]
    answers = [results.predictions.get(row["key"]) for pair in pairs for row in pair]
    right = [found for pair in pairs for row in pair if (found := results.correct(row)) is not None]
    if len(right) < 2 * len(pairs):
        raise UserError("these results have no predictions for each image; run the study's export again")
    same = [float(np.mean(one == other)) for one, other in zip(answers[::2], answers[1::2], strict=True)]
    verdict = paired(right[::2], right[1::2])
    return {
        "n": len(pairs),
        "difference": float(np.mean(gains)),
        "half_interval": half_interval(gains) if len(gains) > 1 else None,
        "agreement": float(np.mean(same)),
        "identical": sum(share == 1 for share in same),
        "better": verdict.better,
        "worse": verdict.worse,
        "p": verdict.p,
    }


def _row(first: str, second: str, record: Record) -> list[Cell]:
    middle, half = 100 * record["difference"], record["half_interval"]
    interval = ABSENT if half is None else f"{signed(middle - 100 * half)} to {signed(middle + 100 * half)}"
    return [
        Cell(first),
        Cell(second),
        Cell(str(record["n"]), record["n"]),
        Cell(signed(middle), record["difference"]),
        Cell(interval, half),
        Cell(percent(record["agreement"]), record["agreement"]),
        Cell(f"{record['identical']} of {record['n']}", record["identical"]),
        Cell(p_value(record["p"]), record["p"]),
    ]


def _by_seed(group: Group) -> dict[tuple[int, int], Row]:
    """Return the group's rows by the seeds of Default and of the head."""
    return {(row["config"]["seed"], row["seed"]): row for row in group.rows}


def _names(groups: list[Group]) -> list[str]:
    """Name each group by its variant, and by what tells it from the others of that variant."""
    names = []
    for group in groups:
        kin = [other for other in groups if other.variant == group.variant]
        settings = [name for name in HEADINGS if name != "variant" and len({plain(other[name]) for other in kin}) > 1]
        different = differing(group, settings + varying(kin))
        names.append(group.variant + (f" ({different})" if different else ""))
    return names
