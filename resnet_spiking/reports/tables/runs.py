"""The table of single runs, flat: for programs, not for people."""

from __future__ import annotations

from resnet_spiking.reports.groups import SHOWN, devices_of
from resnet_spiking.reports.results import Row
from resnet_spiking.reports.table import Record


def run_records(rows: list[Row]) -> list[Record]:
    """Return one record a run: settings, figures, hashes, the command and revision that made it."""
    return [
        {
            "key": row["key"],
            "run": row["run"],
            "seed": row["seed"],
            **{name: row[name] for name in SHOWN},
            **{f"config_{name}": value for name, value in row["config"].items() if name not in (*SHOWN, "seed")},
            "test_accuracy": row["test"]["accuracy"],
            "test_loss": row["test"]["loss"],
            "test_images": row["test"]["images"],
            "precision": row["test"]["precision"],
            "spike_rates": row["test"]["spike_rates"],
            "default_run": (row.get("default") or {}).get("run"),
            "default_accuracy": (row.get("default") or {}).get("accuracy"),
            **{f"operations_{name}": value for name, value in (row.get("operations") or {}).items()
               if isinstance(value, (int, float))},
            **{f"seconds_{name}": value for name, value in row["seconds"].items()},
            "spikes": (row.get("evidence") or {}).get("spikes"),
            "warnings": row["warnings"],
            "data_sha256": row["hashes"]["data"],
            "model_sha256": row["hashes"].get("model"),
            "git": row["provenance"].get("git"),
            "device": ", ".join(devices_of(row)),
            "command": row["provenance"].get("command"),
        }
        for row in rows
    ]  # fmt: skip
