from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resnet_spiking.attacks.journal import Journal
from resnet_spiking.errors import UserError


def test_a_piece_is_computed_once_and_read_back_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=7).astype(np.float32)
    calls: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"values": values}

    for _ in range(2):
        found = Journal(tmp_path / "state").arrays("one", compute)
        assert found["values"].tobytes() == values.tobytes()
    assert len(calls) == 1
    assert Journal().arrays("one", compute)["values"] is values


def test_a_value_survives(tmp_path: Path) -> None:
    assert Journal(tmp_path).value("v", lambda: {"passed": None, "value": 0.5}) == {"passed": None, "value": 0.5}
    assert Journal(tmp_path).value("v", lambda: 1 / 0) == {"passed": None, "value": 0.5}


def test_a_piece_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        Journal(tmp_path).value("v", lambda: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_piece_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.arrays("one", lambda: {"values": np.zeros(100)})
    path = tmp_path / "one.npz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"one\.npz is damaged"):
        journal.arrays("one", dict)
