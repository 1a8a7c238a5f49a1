from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from resnet_spiking.attacks.classic.witness import Witness, positive
from resnet_spiking.attacks.gradients.mode import GradientMode
from resnet_spiking.attacks.losses import cross_entropy, margin
from resnet_spiking.attacks.target import Target, make_target


def silent(iterates: Tensor, judge: object) -> None: ...


def test_its_gradient_is_that_of_the_target(
    target: Target, digits: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = digits
    pixels = images.clone().requires_grad_()
    loss = cross_entropy(Witness(target, generator, silent)(pixels), labels).sum()
    (found,) = torch.autograd.grad(loss, pixels)
    torch.testing.assert_close(found, target.step(images, labels, cross_entropy).gradient)


@settings(max_examples=25)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6), st.integers(-1000, 1000))
def test_a_shift_of_the_logits_changes_nothing(row: list[int], shift: int) -> None:
    logits = torch.tensor([row], dtype=torch.float64)
    moved = positive(logits + shift)
    assert torch.equal(moved, positive(logits))
    assert torch.equal(moved - moved.amin(), logits - logits.amin())
    assert (moved > 0).all() or len(set(row)) == 1


def test_a_new_query_is_reported_once_with_its_margins(
    target: Target, digits: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = digits
    seen = []
    witness = Witness(target, generator, lambda iterates, judge: seen.append((iterates, judge)))
    for _ in range(3):
        witness(images)
    witness(images[:4] / 2)
    assert [len(iterates) for iterates, _ in seen] == [24, 4]
    rows = torch.tensor([2, 0])
    expected = margin(target.model(images[rows] / 2), labels[rows])
    torch.testing.assert_close(seen[1][1](rows, labels[rows]), expected)


def test_passes_are_counted(target: Target, digits: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    images = digits[0][:5].clone().requires_grad_()
    logits = Witness(target, generator, silent)(images)
    before = (target.meter.forwards, target.meter.backwards)
    for index in range(3):
        torch.autograd.grad(logits[:, index].sum(), images, retain_graph=True)
    assert before == (5, 0)
    assert (target.meter.forwards, target.meter.backwards) == (5, 15)


class Relaxed(GradientMode):
    """Adds a constant to every logit while it is in force: a relaxed forward that nobody may take success from."""

    name = "relaxed"
    exact_forward = False

    def __init__(self, model: nn.Module) -> None:
        self.sizes: list[int] = []
        self.inside = 0
        model.register_forward_hook(lambda module, given, logits: logits + 100 * self.inside * torch.eye(10)[0])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def start(self) -> None:
        self.sizes.append(0)


def test_the_gradient_mode_is_in_force_for_gradients_alone(
    smooth: nn.Module, digits: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    images, labels = digits
    model = nn.Sequential(smooth)
    mode = Relaxed(model)
    target = make_target(model, images, mode=mode)
    judged = []
    witness = Witness(target, generator, lambda iterates, judge: judged.append(judge(torch.arange(4), labels[:4])))
    plain = witness(images)
    relaxed = witness((images / 2).requires_grad_())
    torch.testing.assert_close(plain, positive(smooth(images).double()))
    assert (relaxed.argmax(1) == 0).all()
    torch.testing.assert_close(judged[1], margin(smooth(images / 2), labels)[:4])
    # It keeps state per image: another batch size is another batch.
    witness((images / 3).requires_grad_())
    assert len(mode.sizes) == 1
    witness((images[:4] / 3).requires_grad_())
    assert len(mode.sizes) == 2


class Broken(nn.Module):
    """The square root of what is 0 for the first image: its gradient is not finite."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.flatten(1).sum(1)
        return torch.stack([total.sqrt(), total, -total], 1)


def test_a_gradient_that_is_not_finite_is_zero_and_counted(generator: torch.Generator) -> None:
    images = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.25)]).requires_grad_()
    target = make_target(Broken(), images.detach())
    logits = Witness(target, generator, silent)(images)
    (found,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert found.isfinite().all()
    # d sqrt(s)/dx = 1/(2 sqrt(1)) where the sum s is 1.
    assert found[1].flatten().tolist() == pytest.approx([0.5] * 4)
    assert target.meter.broken_gradients == 1
