"""Kill a study at random moments, restart it each time, and compare its results with those of an undisturbed one.

    python bench/study_kills.py --kills 20

Says how many kills fell before the study's end, and whether all results are equal but for measured seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
name = "killed"
[[grid]]
dataset = "digits"
neuron = ["lif", "paralif-sb", "snntorch-lif"]
epochs = "3,3"
train = "head"
train_samples = 400
seed = [0, 1]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "killed.toml").write_text(STUDY)
        began = time.monotonic()
        assert start(root, "undisturbed").wait() == 0
        whole = time.monotonic() - began
        inside = 0
        for number in range(options.kills):
            process = start(root, "study")
            # Early kills fall into start-up, late ones near the end: moments spread over the whole study.
            time.sleep(draw.uniform(0.1, 1) * whole / 3)
            inside += process.poll() is None
            process.kill()
            process.wait()
            print(f"kill {number + 1}: {'running' if process.returncode else 'finished before'}", flush=True)
        assert start(root, "study").wait() == 0
        same = read(root / "undisturbed") == read(root / "study")
        print(f"{inside} of {options.kills} kills fell into the study; results equal: {same}")
        sys.exit(0 if same else 1)


def start(root: Path, folder: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "resnet_spiking.study", "killed.toml", "--workers", "2", "--task-cpus", "1"]
    command += ["--output-dir", folder, "--cache-dir", f"cache-{folder}"]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read(folder: Path) -> dict[str, object]:
    """Return results without measured seconds and without the name of the folder in the command."""
    results = folder / "results"
    rows = [json.loads(line) for line in (results / "rows.jsonl").read_text().splitlines()]
    curves = [json.loads(line) for line in (results / "curves.jsonl").read_text().splitlines()]
    for record in rows + curves:
        record.pop("seconds", None)
        record.pop("provenance", None)
    bytes_of = {name: (results / name).read_bytes() for name in ("predictions.npz", "traces.npz")}
    return {"rows": rows, "curves": curves, **bytes_of}


if __name__ == "__main__":
    main()
