"""Muon against the singular value decomposition, torch's own Muon on matrices, and AdamW on the rest."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from resnet_spiking.config import RunConfig
from resnet_spiking.training.muon import COEFFICIENTS, Muon, orthogonalised
from resnet_spiking.training.optimizer import make_optimizer


def by_decomposition(matrix: Tensor) -> Tensor:
    """What the iteration does to each singular value, one at a time."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / matrix.double().norm()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag(values) @ right


@settings(max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), scale=st.floats(-6, 6), seed=st.integers(0, 999))
def test_the_iteration_acts_on_each_singular_value(rows: int, columns: int, scale: float, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=drawn, dtype=torch.float64) * 10**scale
    torch.testing.assert_close(orthogonalised(matrix), by_decomposition(matrix), rtol=1e-9, atol=1e-9)


def test_in_fp32_steep_matrices_keep_their_singular_vectors() -> None:
    matrix = torch.randn(64, 300, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, 300)
    torch.testing.assert_close(orthogonalised(matrix).double(), by_decomposition(matrix), rtol=0, atol=1e-4)


def spectrum(kind: str, size: int = 96) -> Tensor:
    if kind == "few":
        return torch.cat([torch.ones(3), torch.logspace(-1, -5, size - 3)])
    return torch.logspace(0, {"flat": 0, "steep": -2, "very steep": -4}[kind], size)


@pytest.mark.parametrize("kind", ["flat", "steep", "very steep", "few"])
def test_in_bf16_the_error_is_that_of_iterating_on_the_whole_matrix(kind: str) -> None:
    drawn = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(96, 96, generator=drawn))
    right, _ = torch.linalg.qr(torch.randn(200, 96, generator=drawn))
    matrix = left @ torch.diag(spectrum(kind)) @ right.T
    whole, (a, b, c) = (matrix / matrix.norm()).bfloat16(), COEFFICIENTS
    for _ in range(5):
        gram = whole @ whole.T
        whole = a * whole + (b * gram + c * gram @ gram) @ whole
    found = orthogonalised(matrix, torch.bfloat16)
    exact = by_decomposition(matrix)
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 1.25 * (whole - exact).norm()
    assert torch.linalg.svdvals(found).max() < 1.25


def test_singular_values_end_about_one() -> None:
    left, _ = torch.linalg.qr(torch.randn(30, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(80, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    values = torch.logspace(0, -1.5, 30, dtype=torch.float64)
    found = torch.linalg.svdvals(orthogonalised(left @ torch.diag(values) @ right.T))
    assert found.min() > 0.6
    assert found.max() < 1.25


def test_no_gradient_is_no_update() -> None:
    assert not orthogonalised(torch.zeros(3, 5)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_steps_are_those_of_torch_on_matrices(precision: torch.dtype | None) -> None:
    drawn = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(24, 40, generator=drawn))
    theirs = nn.Parameter(ours.detach().clone())
    mine = Muon([{"params": [ours], "lr": 0.02, "weight_decay": 0.1, "orthogonal": True}], 0.02, precision)
    # Its scale is 0.2 sqrt(max(m, n)).
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    for _ in range(6):
        gradient = torch.randn(24, 40, generator=drawn)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        before = ours.detach().clone()
        mine.step()
        reference.step()
        moved = (ours - before).norm()
        # torch iterates in bf16: three decimal digits.
        assert (ours - theirs).norm() < 0.05 * moved * math.sqrt(6)


def test_a_kernel_is_read_as_a_matrix_of_its_outputs() -> None:
    drawn = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 5, 3, 3, generator=drawn).contiguous(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().contiguous().flatten(1).clone())
    both = Muon([{"params": [kernel, matrix], "weight_decay": 0.1, "orthogonal": True}], lr=0.01)
    for _ in range(3):
        gradient = torch.randn(8, 5, 3, 3, generator=drawn)
        kernel.grad, matrix.grad = gradient.contiguous(memory_format=torch.channels_last), gradient.flatten(1).clone()
        both.step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_an_update_is_about_as_large_as_the_rate() -> None:
    kernel = nn.Parameter(torch.zeros(32, 16, 3, 3))
    kernel.grad = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([{"params": [kernel], "orthogonal": True}], lr=0.01).step()
    assert 0.006 < kernel.detach().square().mean().sqrt() < 0.013


def test_the_rest_takes_the_steps_of_adamw() -> None:
    drawn = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(7, generator=drawn))
    theirs = nn.Parameter(ours.detach().clone())
    mine = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01)
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(7, generator=drawn)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(images).mean((2, 3)))


def test_kernels_of_the_stages_are_orthogonal_and_the_head_is_not() -> None:
    network = Small()
    optimizer = make_optimizer(network, RunConfig(optimizer="muon"))
    turned = [p for group in optimizer.param_groups if group["orthogonal"] for p in group["params"]]
    assert len(turned) == 1
    assert turned[0] is network.stages[0].weight
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


@pytest.mark.parametrize(("precision", "expected"), [("fp32", None), ("bf16", torch.bfloat16)])
def test_matrices_are_turned_at_the_precision_of_the_convolutions(precision: str, expected: torch.dtype | None) -> None:
    optimizer = make_optimizer(Small(), RunConfig(optimizer="muon", precision=precision))
    assert isinstance(optimizer, Muon)
    assert optimizer.precision == expected


def test_saved_state_continues_to_the_same_bits() -> None:
    torch.manual_seed(0)
    network, images = Small(), torch.randn(4, 2, 6, 6)

    def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            network(images).square().sum().backward()
            optimizer.step()

    config = RunConfig(optimizer="muon")
    optimizer = make_optimizer(network, config)
    train(network, optimizer, 3)
    twin = copy.deepcopy(network)
    loaded = make_optimizer(twin, config)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(network, optimizer, 3)
    train(twin, loaded, 3)
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
