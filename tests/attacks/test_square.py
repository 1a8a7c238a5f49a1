"""Square: closed form on a model of channels, torchattacks' own, windows of every size."""

from __future__ import annotations

import pytest
import torch
import torchattacks
from attack_cases import Fixed, rate_classifier, target_of
from torch import Tensor, nn

from resnet_spiking.attacks.square import _bump, _pattern, _Window, square
from resnet_spiking.attacks.threat import Norm, Threat, norm_of


class Light(nn.Module):
    """Class 1 wins when the mean of all pixels reaches 0.5 + ``edge``: in L-infinity at eps = edge, at a corner."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, images: Tensor) -> Tensor:
        light = images.mean((1, 2, 3)) - 0.5
        return torch.stack([torch.full_like(light, self.edge), light], dim=1)


@pytest.mark.parametrize(("eps", "success"), [(0.095, False), (0.105, True)])
def test_linf_reaches_the_corner_of_the_ball(eps: float, success: bool, generator: torch.Generator) -> None:
    images, labels = torch.full((4, 3, 8, 8), 0.5), torch.zeros(4, dtype=torch.long)
    target = target_of(Light(0.1), images)
    found = square(target, images, labels, Threat("linf", eps), generator=generator, queries=1500)
    assert found.success.tolist() == [success] * 4
    # A larger window takes what a smaller one has gained; all but a few pixels stand at the corner in the end.
    assert success or (found.margin > 0.9 * eps - 0.1).all()
    assert target.meter.backwards == 0


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 1.0)])
def test_as_strong_as_torchattacks(
    norm: Norm, eps: float, trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = bars
    with torch.random.fork_rng():
        peer = torchattacks.Square(
            trained, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, n_queries=200, resc_schedule=False
        )
        theirs = trained(peer(images, labels)).argmax(1) == labels
    target = target_of(trained, images)
    ours = ~square(target, images, labels, Threat(norm, eps), generator=generator, queries=200).success
    assert 0 < theirs.sum() < len(images)
    assert abs(int(ours.sum()) - int(theirs.sum())) <= 5


def test_l2_keeps_the_whole_radius(trained: nn.Module, bars: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    """Away from the edge of the box every candidate has the norm eps."""
    images = torch.full((4, 3, 16, 16), 0.5)
    seen: list[Tensor] = []
    model = nn.Sequential(trained)
    target = target_of(model, images)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(norm_of(inputs[0] - 0.5, "l2")))
    labels = trained(images).argmax(1)
    square(target, images, labels, Threat("l2", 0.05), generator=generator, queries=40)
    assert len(seen) == 41
    assert torch.allclose(torch.cat(seen[1:]), torch.tensor(0.05), atol=1e-5)


def test_the_margin_never_falls(trained: nn.Module, bars: tuple[Tensor, Tensor]) -> None:
    images, labels = bars
    target, threat = target_of(trained, images), Threat("linf", 0.05)
    few, many = (
        square(target, images, labels, threat, generator=torch.Generator().manual_seed(1), queries=n) for n in (10, 60)
    )
    held = ~few.success
    assert (many.margin >= few.margin)[held].all()
    assert (many.margin > few.margin)[held].float().mean() > 0.8


def test_a_stochastic_model_is_judged_by_the_mean_of_draws(generator: torch.Generator) -> None:
    model, images = rate_classifier(), torch.rand(2, 3, 12, 12)
    target = target_of(model, images, draws=5)
    labels = (~target.correct(images, torch.zeros(2, dtype=torch.long), generator)).long()
    before = target.meter.head_forwards
    square(target, images, labels, Threat("linf", 0.001), generator=generator, queries=3)
    assert target.meter.head_forwards >= before + 5 * 2


def test_windows_and_bumps_by_hand(generator: torch.Generator) -> None:
    images = torch.zeros(50, 1, 5, 6)
    window = _Window(images, 2, 3, generator)
    assert (window.inside.sum((1, 2, 3)) == 6).all()
    placed = window.place(torch.arange(1.0, 7).view(2, 3))
    assert (placed.sum((1, 2, 3)) == 21).all()
    assert bool((placed[~window.inside.expand_as(placed)] == 0).all())
    bump = _bump(3, 3, images)
    assert bump.tolist() == [[0.25, 0.25, 0.25], [0.25, 1.25, 0.25], [0.25, 0.25, 0.25]]
    for side in (1, 2, 5):
        assert _pattern(side, side, images, generator).norm().item() == pytest.approx(1)


def _windows(monkeypatch: pytest.MonkeyPatch) -> list:
    from resnet_spiking.attacks import square as module

    made: list = []

    class Kept(module._Window):
        def __init__(self, images: Tensor, height: int, width: int, generator: torch.Generator) -> None:
            super().__init__(images, height, width, generator)
            self.size = height, width
            made.append(self)

    monkeypatch.setattr(module, "_Window", Kept)
    return made


def test_windows_halve_after_the_queries_of_the_paper(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """torchattacks' own ``p_selection``, from query 0 on; side = sqrt(p h w)."""
    import torchattacks

    from resnet_spiking.attacks.square import square

    images, labels, made = torch.full((1, 1, 20, 20), 0.5), torch.zeros(1, dtype=torch.long), _windows(monkeypatch)
    target = target_of(Fixed([1.0, 0.0]), images)
    square(target, images, labels, Threat("linf", 0.1), generator=generator, queries=220)
    peer = torchattacks.Square(nn.Identity(), p_init=0.8)
    peer.rescale_schedule = False
    sides = [max(round((peer.p_selection(query) * 400) ** 0.5), 1) for query in range(219)]
    assert [window.size for window in made] == [(side, side) for side in sides]


def test_in_l2_what_is_left_of_the_radius_goes_into_an_odd_window(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """Algorithm 3: outside of the two windows nothing changes; inside there is what was freed and unused, along what
    was there (scaled to length 1) and a bump of length 1, which is about at right angles to it."""
    from resnet_spiking.attacks import square as module

    made, threat = _windows(monkeypatch), Threat("l2", 0.5)
    clean = torch.full((40, 3, 16, 16), 0.5)
    change = torch.randn(clean.shape, generator=generator)
    change = 0.3 * change / norm_of(change, "l2").view(-1, 1, 1, 1)
    moved = module._propose_l2(threat, clean, clean + change, 0.06, generator) - clean  # sqrt(0.06 256) = 3.9
    filled, emptied = made
    assert filled.size == emptied.size == (5, 5)
    assert torch.allclose(norm_of(moved, "l2"), torch.tensor(0.5), atol=1e-5)
    outside = ~(filled.inside | emptied.inside).expand_as(clean)
    assert torch.allclose(moved[outside], change[outside], atol=1e-6)
    old, new = (torch.where(filled.inside, part, 0).flatten(2) for part in (change, moved))
    along = nn.functional.cosine_similarity(old, new, dim=2)
    assert along.mean().item() == pytest.approx(0.5**0.5, abs=0.06)
