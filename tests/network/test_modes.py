from __future__ import annotations

from contextlib import suppress

from torch import nn

from resnet_spiking.network.modes import in_eval_mode


def test_each_module_gets_its_own_mode_back_also_after_an_exception() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout())).train()
    network[0].eval()  # frozen, in a network that trains
    with in_eval_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, False, True, True]
    with suppress(ZeroDivisionError), in_eval_mode(network):
        _ = 1 / 0
    assert [module.training for module in network.modules()] == [True, False, True, True]
