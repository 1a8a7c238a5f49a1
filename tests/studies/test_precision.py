"""What `auto` is in a study that goes on where a device would choose otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnet_spiking.errors import UserError
from resnet_spiking.studies.precision import settled_precision
from resnet_spiking.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("first", "settled", "other"), [(True, "bf16", "fp32"), (False, "fp32", "bf16")])
def test_auto_stays_what_it_was_where_the_study_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool, settled: str, other: str
) -> None:
    monkeypatch.setattr(precision, "has_matrix_units", lambda: first)
    assert settled_precision(tmp_path, CPU) == (settled, None)
    monkeypatch.setattr(precision, "has_matrix_units", lambda: not first)
    found, note = settled_precision(tmp_path, CPU)
    assert found == settled
    assert note is not None
    assert f"is {settled} in this study" in note
    assert f"would choose {other}" in note
    assert [path.name for path in tmp_path.iterdir()] == ["precision.json"]


@pytest.mark.parametrize("text", ["x", "{}", "[1]", '{"auto": "fp8"}'])
def test_a_damaged_choice_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "precision.json").write_text(text)
    with pytest.raises(UserError, match=r"precision.json is damaged; write") as caught:
        settled_precision(tmp_path, CPU)
    assert "\n" not in str(caught.value)
