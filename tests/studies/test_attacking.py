"""Which earlier evaluations of a study a further one may take finished networks from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from resnet_spiking.attacks.subjects import Subject
from resnet_spiking.environment import Environment
from resnet_spiking.studies import attacking


def test_only_evaluations_that_differ_in_their_networks_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "digits-resnet18-quick-linf-s0"
    for name in (f"{prefix}-11111111", f"{prefix}-22222222", "digits-resnet18-quick-linf-s1-33333333"):
        (tmp_path / "attacks" / name).mkdir(parents=True)
        (tmp_path / "attacks" / name / "result.json").write_text("{}")
    (tmp_path / "attacks" / f"{prefix}-44444444").mkdir()  # not finished
    calls: list[tuple[Path, dict[str, Any]]] = []
    monkeypatch.setattr(attacking, "load_subjects", lambda runs: ([], []))
    monkeypatch.setattr(attacking, "load_sample", lambda run, samples, data_dir: None)
    monkeypatch.setattr(
        attacking, "evaluate", lambda subjects, sample, settings, output, attacker, **how: calls.append((output, how))
    )
    payload = {"runs": ["a"], "samples": 5, "bundle": "quick", "norm": "linf", "eps": ["1/255"]}
    path = attacking.attack_networks(tmp_path, f"{prefix}-22222222", payload, Environment())
    ((output, how),) = calls
    assert path == output / "result.json"
    assert output.name == f"{prefix}-22222222"
    assert how == {"resume": False, "reuse": [tmp_path / "attacks" / f"{prefix}-11111111"], "only": None}


def test_runs_made_under_another_name_of_their_dataset_are_found_by_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old-default-1-s0-11111111", "old-lif-1-1-head-s0-22222222", "new-lif-1-1-head-s1-33333333"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    asked: list[list[Path]] = []
    chosen: list[list[str] | None] = []

    def load_subjects(runs: list[Path]) -> tuple[list[Subject], list[str]]:
        asked.append(runs)
        return [Subject(run.name[-8:], torch.nn.Identity(), run=str(run)) for run in runs], []

    monkeypatch.setattr(attacking, "load_subjects", load_subjects)
    monkeypatch.setattr(attacking, "load_sample", lambda run, samples, data_dir: None)
    monkeypatch.setattr(attacking, "evaluate", lambda *given, only, **how: chosen.append(only))
    runs = ["new-default-1-s0-11111111", "new-lif-1-1-head-s0-22222222", "new-lif-1-1-head-s1-33333333"]
    payload = {"runs": runs, "network": runs[1], "samples": 5, "bundle": "quick", "norm": "linf", "eps": ["1/255"]}
    attacking.attack_network(tmp_path, "x-44444444", payload, Environment())
    assert [run.name for run in asked[0]] == [runs[0].replace("new", "old"), runs[1].replace("new", "old"), runs[2]]
    assert chosen == [["22222222"]]


def test_a_network_attacked_ahead_is_taken_over_and_its_part_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = "digits-resnet18-quick-linf-s0-11111111"
    subjects = [Subject(name, torch.nn.Identity(), name, str(tmp_path / "runs" / f"run-{name}")) for name in "ab"]
    calls: list[tuple[Path, dict[str, Any]]] = []

    def evaluate(subjects: Any, sample: Any, settings: Any, output: Path, attacker: Any, **how: Any) -> None:
        calls.append((output, how))
        output.mkdir(parents=True)
        (output / "result.json").write_text("{}")

    monkeypatch.setattr(attacking, "load_subjects", lambda runs: (subjects, []))
    monkeypatch.setattr(attacking, "load_sample", lambda run, samples, data_dir: None)
    monkeypatch.setattr(attacking, "evaluate", evaluate)
    payload = {"runs": ["run-a", "run-b"], "samples": 5, "bundle": "quick", "norm": "linf", "eps": ["1/255"]}
    attacking.attack_network(tmp_path, label, {**payload, "network": "run-b"}, Environment())
    parts = tmp_path / "attacks" / label / "parts"
    assert calls.pop() == (parts / "run-b", {"resume": False, "reuse": [], "only": ["b"]})
    monkeypatch.setattr(
        attacking, "evaluate", lambda subjects, sample, settings, output, attacker, **how: calls.append((output, how))
    )
    attacking.attack_networks(tmp_path, label, payload, Environment())
    assert calls == [(parts.parent, {"resume": False, "reuse": [parts / "run-b"], "only": None})]
    assert not parts.exists()
