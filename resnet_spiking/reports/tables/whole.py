"""Every table of a report, made once for the page, the Markdown file and the files for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resnet_spiking.reports.attacked import Attacked, attacked, dataset_of
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.table import Table
from resnet_spiking.reports.tables.accuracy import accuracy_table
from resnet_spiking.reports.tables.attacks import robustness_table
from resnet_spiking.reports.tables.scaling import scaling_table
from resnet_spiking.reports.tables.trust import trust_table


@dataclass(frozen=True)
class Tables:
    """``accuracy`` has no row before a run has finished. ``trust``: label and result of an attack, and its checks."""

    accuracy: Table
    robustness: list[tuple[Attacked, Table]]
    trust: list[tuple[str, dict[str, Any], Table]]
    scaling: list[Table]

    @classmethod
    def of(cls, digest: Digest) -> Tables:
        attacks, scaling = digest.results.attacks, digest.results.scaling
        return cls(
            accuracy_table(digest.groups),
            [(entry, robustness_table(entry)) for entry in attacked(digest)],
            [
                (label, result, trust_table(label, result, dataset_of(digest, result)))
                for label, result in attacks.items()
            ],
            [scaling_table(scaling, axis) for axis in dict.fromkeys(row["axis"] for row in scaling)],
        )

    @property
    def filled(self) -> list[Table]:
        """Every table that the results have something for."""
        return [
            *([self.accuracy] if self.accuracy.rows else []),
            *(table for _, table in self.robustness),
            *(table for _, _, table in self.trust),
            *self.scaling,
        ]
