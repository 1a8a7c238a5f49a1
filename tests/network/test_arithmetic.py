from __future__ import annotations

import pytest
import torch

from resnet_spiking.network.arithmetic import plain_arithmetic


def _flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic


def test_tf32_and_unordered_sums_are_off_inside_and_as_before_after_an_exception() -> None:
    before = _flags()
    assert before[1], "torch's default has changed"
    seen = []

    @plain_arithmetic()
    def fail() -> None:
        seen.append(_flags())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [(False, False, True)]
    assert _flags() == before


def test_a_decorated_function_computes_so_every_time() -> None:
    decorated = plain_arithmetic()(_flags)
    assert decorated() == decorated() == (False, False, True)
    assert _flags()[1]
