"""Kills, Ctrl-C, crashed workers and small disks: the study continues to the results of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spiking.studies import study as study_module
from resnet_spiking.studies.status import read_board, read_entries
from resnet_spiking.studies.study import Execution, run_study
from resnet_spiking.studies.work import Resources

from .conftest import Inline, Silent, make_study

# Only a study that hangs takes so long, also on a machine that is busy with other work.
PATIENCE = 1200

TEXT = """
name = "survivor"
[datasets.shapes]
kind = "folder"
data_dir = "{pictures}"
image_size = 32
[[grid]]
dataset = "shapes"
weights = "none"
neuron = ["lif", "relu"]
epochs = "2,1"
num_steps = 3
hidden = 8
batch_size = 24
train = "head"
precision = "fp32"
"""


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed") / "study"
    study = make_study(pictures, "survivor", epochs="2,1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "start_engine", lambda execution, folder: Inline())
        run_study(study, folder, Execution(resources=Resources(cache_dir=folder.parent / "cache")), Silent())
    return figures(folder)


def figures(folder: Path) -> dict[str, Any]:
    """Return everything in results but seconds, and what names this command and machine."""
    results = folder / "results"
    rows = [json.loads(line) for line in (results / "rows.jsonl").read_text().splitlines()]
    curves = [json.loads(line) for line in (results / "curves.jsonl").read_text().splitlines()]
    arrays = {}
    for name in ("predictions.npz", "traces.npz"):
        with np.load(results / name) as stored:
            arrays |= {key: stored[key].tolist() for key in stored}
    for row in rows:
        del row["seconds"], row["provenance"]
    for line in curves:
        del line["seconds"]
    return {"rows": rows, "curves": curves, "arrays": arrays}


def start(folder: Path, pictures: Path, **limits: int) -> subprocess.Popen[str]:
    (folder / "survivor.toml").write_text(TEXT.format(pictures=pictures))
    command = [sys.executable, "-m", "resnet_spiking.study", "survivor.toml", "--workers", "2", "--task-cpus", "1"]
    command += ["--cache-dir", "cache", "--output-dir", "study", "--retries", "1"]

    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    return subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=limit
    )


def finish(folder: Path, pictures: Path) -> str:
    with start(folder, pictures) as process:
        out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return out + errors


def test_kills_at_random_moments_change_nothing(tmp_path: Path, pictures: Path, undisturbed: dict[str, Any]) -> None:
    draw = random.Random(0)
    for _ in range(3):
        with start(tmp_path, pictures) as process:
            time.sleep(draw.uniform(1, 6))
            process.kill()
    finish(tmp_path, pictures)
    assert figures(tmp_path / "study") == undisturbed
    assert not [path for path in (tmp_path / "study" / "runs").rglob("*") if path.suffix in (".tmp", ".ckpt")]


def running_worker(folder: Path, seconds: float = PATIENCE) -> int:
    """Return the process id of a worker that has a run in hand."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (folder / "ledger.sqlite").exists():
            for entry in read_entries(folder):
                if entry.state == "running" and entry.kind == "run" and entry.worker:
                    return int(entry.worker.split("pid ")[1].rstrip(")"))
        time.sleep(0.05)
    raise AssertionError("no worker had a run within the time")


def test_a_killed_worker_is_replaced_and_ctrl_c_saves(
    tmp_path: Path, pictures: Path, undisturbed: dict[str, Any]
) -> None:
    with start(tmp_path, pictures) as process:
        os.kill(running_worker(tmp_path / "study"), signal.SIGKILL)
        time.sleep(1)
        busy = subprocess.run(process.args, cwd=tmp_path, capture_output=True, text=True)  # type: ignore[call-overload]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert busy.returncode == 2
    assert "error: another study is running in" in busy.stderr
    assert busy.stderr.count("\n") == 1
    assert process.returncode in (0, 130)
    assert "ended by SIGKILL; attempt 2 of 2" in errors
    assert "Traceback" not in errors
    assert not [entry for entry in read_entries(tmp_path / "study") if entry.state == "running"]
    finish(tmp_path, pictures)
    assert figures(tmp_path / "study") == undisturbed


def test_a_full_disk_ends_in_one_line_and_puts_everything_back(tmp_path: Path, pictures: Path) -> None:
    # No file may grow beyond 8 MB: features fit, the first checkpoint does not.
    with start(tmp_path, pictures, RLIMIT_FSIZE=8_000_000) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("error: ")
    assert "same command again" in errors
    assert "Traceback" not in errors
    board = read_board(tmp_path / "study")
    assert board.count("waiting") == board.total
