from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_spiking.training.tally import Tally

CPU = torch.device("cpu")
STEPS = st.lists(st.tuples(st.floats(0, 100, width=32), st.integers(0, 128), st.floats(0, 1, width=32)), max_size=20)


@given(STEPS, st.integers(0, 20))
def test_sums_are_those_of_python_also_when_taken_up_again(steps: list[tuple[float, int, float]], cut: int) -> None:
    tally = Tally(CPU, {})
    for index, (loss, correct, rate) in enumerate(steps):
        if index == cut:
            tally = Tally(CPU, json.loads(json.dumps(tally.read())))
        tally.add(torch.tensor(loss), torch.tensor(correct), [torch.tensor(rate), torch.tensor(1 - rate)])
        tally.seconds += 0.5
    found = tally.read()
    assert found["loss"] == sum(loss for loss, _, _ in steps)
    assert found["correct"] == sum(correct for _, correct, _ in steps)
    assert found["seconds"] == 0.5 * len(steps)
    if steps:
        assert found["rates"][0] == sum(rate for _, _, rate in steps)
        assert found["rates"][1] == pytest.approx(sum(1 - rate for _, _, rate in steps), rel=1e-6)
    else:
        assert found["rates"] == []


def test_a_network_without_spikes_has_no_rates() -> None:
    tally = Tally(CPU, {})
    tally.add(torch.tensor(1.5), torch.tensor(3), [])
    assert tally.read() == {"loss": 1.5, "correct": 3, "rates": [], "seconds": 0.0}
