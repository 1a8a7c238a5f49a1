"""Every table by name, and what a request for one may say."""

from __future__ import annotations

from resnet_spiking.errors import UserError, nearest
from resnet_spiking.reports.attacked import attacked, dataset_of
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.groups import Group, differing, plain, varying
from resnet_spiking.reports.request import Request, choose, choose_labels
from resnet_spiking.reports.table import Table
from resnet_spiking.reports.tables.accuracy import FIGURES, HEADINGS, accuracy_table
from resnet_spiking.reports.tables.attacks import robustness_table
from resnet_spiking.reports.tables.matrix import matrix_table
from resnet_spiking.reports.tables.pairs import pairs_table
from resnet_spiking.reports.tables.scaling import scaling_table
from resnet_spiking.reports.tables.trap import trap_table
from resnet_spiking.reports.tables.trust import trust_table

OPTIONS: dict[str, frozenset[str]] = {
    "accuracy": frozenset({"columns"}),
    "matrix": frozenset({"across", "fill"}),
    "pairs": frozenset({"against"}),
    "robustness": frozenset({"result", "dataset"}),
    "trust": frozenset({"result"}),
    "trap": frozenset({"result"}),
    "scaling": frozenset({"axis"}),
    "value": frozenset({"column"}),
}
"""Kind → its options; every other name in a request of a study's rows is a setting that they must have."""


def make_tables(digest: Digest, request: Request) -> list[Table]:
    """Return the tables that a request asks for: one, or one for each attack result or axis.

    Raises:
        UserError: nothing has the settings asked for, an unknown setting or option, or (matrix) more than one
            group for a field.
    """
    if request.kind in ("accuracy", "matrix", "pairs"):
        groups = _some(digest, request)
        if request.kind == "pairs":
            return [pairs_table(groups, request.option("against"))]
        if request.kind == "accuracy":
            return [accuracy_table(groups, request.option("columns"))]
        across = request.option("across", ("dataset", "backbone"))
        for name in across:
            if name not in groups[0].settings:
                raise UserError(
                    f"the request {request.text!r}: no setting {name!r}{nearest(name, list(groups[0].settings))}"
                )
        fill = "".join(request.option("fill"))
        return [matrix_table(groups, across, request.values, fill)]
    if request.kind == "robustness":
        found = attacked(digest, set(_labels(digest, request)), request.option("dataset"))
        if not found:
            raise UserError(f"the request {request.text!r} matches no attack result")
        return [robustness_table(entry) for entry in found]
    if request.kind in ("trust", "trap"):
        make = trust_table if request.kind == "trust" else trap_table
        results = {label: digest.results.attacks[label] for label in _labels(digest, request)}
        return [make(label, result, dataset_of(digest, result)) for label, result in results.items()]
    if request.kind == "scaling":
        _only_options(request)
        axes = dict.fromkeys(request.option("axis", ("T",)))
        for axis in axes:
            if not any(row["axis"] == axis for row in digest.results.scaling):
                raise UserError(f"the request {request.text!r}: the results have no scaling.csv with the axis {axis!r}")
        return [scaling_table(digest.results.scaling, axis) for axis in axes]
    raise UserError(f"the request {request.text!r} is not a table")


def make_value(digest: Digest, request: Request) -> str:
    """Return one figure of one row, written as tables write it.

    Raises:
        UserError: no column, or not exactly one group with the settings asked for.
    """
    column = "".join(request.option("column"))
    if column not in FIGURES:
        raise UserError(
            f"the request {request.text!r} needs column=NAME{nearest(column, list(FIGURES))}; "
            f"one of: {', '.join(FIGURES)}"
        )
    groups = _some(digest, request)
    if len(groups) > 1:
        names = [name for name in HEADINGS if len({plain(group[name]) for group in groups}) > 1] + varying(groups)
        found = "; ".join(differing(group, names) for group in groups[:3])
        raise UserError(f"the request {request.text!r} matches {len(groups)} rows ({found} …); name more settings")
    return FIGURES[column].cell(groups[0]).text


def _some(digest: Digest, request: Request) -> list[Group]:
    found = choose(digest.groups, request, OPTIONS[request.kind])
    if not found:
        raise UserError(f"the request {request.text!r} matches no row of {digest.results.folder}")
    return found


def _labels(digest: Digest, request: Request) -> list[str]:
    _only_options(request)
    if not digest.results.attacks:
        raise UserError(f"the request {request.text!r}: {digest.results.folder} has no attack results")
    return choose_labels(list(digest.results.attacks), request)


def _only_options(request: Request) -> None:
    for name in request.values:
        if name not in OPTIONS[request.kind]:
            raise UserError(
                f"the request {request.text!r}: {request.kind} takes {', '.join(OPTIONS[request.kind])}, not {name!r}"
            )
