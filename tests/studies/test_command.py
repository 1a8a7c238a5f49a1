from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnet_spiking import study
from resnet_spiking.studies.presets import PRESETS, preset_text
from resnet_spiking.studies.work import Resources

BAD = {
    "nothing": (["run"], "either a study file or --preset"),
    "both": (["--preset", "quick", "x.toml"], "either a study file or --preset"),
    "preset": (["--preset", "quik"], "did you mean 'quick'"),
    "file": (["absent.toml"], "cannot be read"),
    "engine": (["--preset", "quick", "--engine", "rey"], "did you mean 'ray'"),
    "address": (["--preset", "quick", "--address", "x:1"], "--address belongs to --engine ray"),
    "gpus": (["--preset", "quick", "--task-gpus", "1"], "--task-gpus belongs to --engine ray"),
    **{
        f"gpus {number}": (["--preset", "quick", "--engine", "ray", "--task-gpus", number], "share of one GPU, 0 to 1")
        for number in ("nan", "inf", "-1", "1.5")
    },
    "cache": (["--preset", "quick", "--no-cache", "--cache-dir", "x"], "contradict"),
    "data": (["--preset", "quick", "--data-dir", "digit=x"], "did you mean 'digits'"),
    "place": (["--preset", "quick", "--data-dir", "digits=absent"], "digits come with scikit-learn"),
    "weights": (["--preset", "quick", "--weights", "resnet18=absent.pth"], "nor a file that exists"),
    "status": (["status", "absent"], "no study folder"),
    "export": (["export", "absent"], "no study folder"),
    "folder": (["."], "no study folder"),
    "output": (["--preset", "quick", "--output-dir", "/proc/forbidden"], "cannot write"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", *arguments])
    with pytest.raises(SystemExit) as stopped:
        study.main()
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_printed_to_begin_from(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        study.main(["preset", name])
    assert not stopped.value.code
    assert capsys.readouterr().out == preset_text(name)


@pytest.mark.parametrize(
    ("options", "workers", "threads"),
    [("", 4, 1), ("--workers 2", 2, 2), ("--device cuda", 1, 4), ("--device cuda:1 --workers 2", 2, 2)],
)
def test_a_gpu_gets_one_worker_unless_more_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: str, workers: int, threads: int
) -> None:
    seen: list[tuple[int, int]] = []

    def planned(of: object, folder: Path, resources: Resources, count: int) -> None:
        seen.append((count, resources.threads))

    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setattr("resnet_spiking.studies.dry_run.print_dry_run", planned)
    with pytest.raises(SystemExit) as stopped:
        study.main(["--preset", "quick", "--dry-run", *options.split()])
    assert not stopped.value.code
    assert seen == [(workers, threads)]
