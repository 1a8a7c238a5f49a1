"""What starting workers and scheduling cost a study of short runs, of the time that its workers were held.

    python bench/study_overhead.py --runs 24 --epochs 40 --workers 2

A Default is trained first; the measured study then adds heads on it, as adding a neuron to a study file does. Says
wall time, the seconds that the runs took by the ledger, and the share of workers x wall in which no run was in work.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
name = "overhead"
[[grid]]
dataset = "digits"
neuron = {neuron}
epochs = "2,{epochs}"
train = "head"
default_seed = 0
seed = {seeds}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=40, help="of a run: choose what takes ten seconds here")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        conduct(root, neuron='"relu"', epochs=options.epochs, seeds=[0], workers=options.workers)
        before = seconds_of_runs(root)
        began = time.monotonic()
        conduct(
            root,
            neuron='"snntorch-lif"',
            epochs=options.epochs,
            seeds=list(range(options.runs)),
            workers=options.workers,
        )
        wall = time.monotonic() - began
        runs = [spent for key, spent in seconds_of_runs(root).items() if key not in before]
    held = options.workers * wall
    print(f"{len(runs)} runs of {sum(runs) / len(runs):.1f} s on {options.workers} workers in {wall:.1f} s")
    print(
        f"start-up, scheduling and waiting for the last run: {100 * (1 - sum(runs) / held):.1f} % of the workers' time"
    )


def conduct(root: Path, *, neuron: str, epochs: int, seeds: list[int], workers: int) -> None:
    (root / "overhead.toml").write_text(STUDY.format(neuron=neuron, epochs=epochs, seeds=seeds))
    command = [sys.executable, "-m", "resnet_spiking.study", "overhead.toml", "--workers", str(workers)]
    subprocess.run([*command, "--cache-dir", "cache"], cwd=root, check=True, stdout=subprocess.DEVNULL)


def seconds_of_runs(root: Path) -> dict[str, float]:
    ledger = sqlite3.connect(f"file:{root / 'studies' / 'overhead' / 'ledger.sqlite'}?mode=ro", uri=True)
    found = ledger.execute("SELECT key, seconds FROM tasks WHERE kind = 'run' AND state = 'done'")
    return dict(found.fetchall())


if __name__ == "__main__":
    main()
