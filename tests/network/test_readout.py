from __future__ import annotations

import pytest
import torch

from resnet_spiking.network.encoding import rate_encode
from resnet_spiking.network.readout import read_out


def test_readouts_of_a_hand_computed_case() -> None:
    currents = torch.tensor([1.0, 0.0, 2.0])[:, None, None]
    assert read_out(currents, "mean", 0.5).item() == 1.0
    assert read_out(currents, "sum", 0.5).item() == 3.0
    assert read_out(currents, "last", 0.5).item() == 2.0


def test_membrane_readout_equals_the_integrator_run_step_by_step() -> None:
    currents = torch.randn(7, 3, 4, dtype=torch.float64)
    potential, total = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    for current in currents:
        potential = 0.8 * potential + 0.2 * current
        total += potential
    assert torch.allclose(read_out(currents, "membrane", 0.8), total / 7, atol=1e-12)


def test_unknown_readout_is_refused() -> None:
    with pytest.raises(ValueError, match="median"):
        read_out(torch.zeros(1, 1, 1), "median", 0.5)


def test_rate_encoding_fires_at_the_normalised_feature() -> None:
    pooled = torch.tensor([[0.0, 1.0, 4.0]])
    spikes = rate_encode(pooled, 4000, torch.Generator().manual_seed(0))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(spikes.mean(0), torch.tensor([[0.0, 0.25, 1.0]]), atol=0.03)


def test_rate_encoding_passes_the_gradient_straight_through() -> None:
    pooled = torch.tensor([[0.0, 1.0, 4.0]], requires_grad=True)
    rate_encode(pooled, 6, torch.Generator().manual_seed(0))[:, 0, 1].sum().backward()
    assert pooled.grad is not None
    assert pooled.grad[0, 1].item() == pytest.approx(6 / 4)


def test_rate_encoding_of_constant_features_is_silent() -> None:
    assert not rate_encode(torch.full((2, 3), 1.7), 5).any()
