from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from resnet_spiking.config import RunConfig
from resnet_spiking.data.feature_cache import FeatureSource
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.views import PLAIN
from resnet_spiking.errors import UserError
from resnet_spiking.network.head import LinearHead
from resnet_spiking.training.distillation import distillation_loss
from resnet_spiking.training.loop import train_step
from resnet_spiking.training.optimizer import make_optimizer


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_equals_the_sum_by_hand(temperature: float) -> None:
    student, teacher = np.random.default_rng(0).normal(size=(2, 5, 4))

    def softmax(z: np.ndarray) -> np.ndarray:
        powers = np.exp(z / temperature)
        return powers / powers.sum(1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    expected = temperature**2 * (p * np.log(p / q)).sum() / 5
    assert float(distillation_loss(torch.tensor(student), torch.tensor(teacher), temperature)) == pytest.approx(
        expected
    )


def test_the_gradient_keeps_its_size_when_the_temperature_grows() -> None:
    """For large tau it is (z - v) / C for logits of mean zero: Hinton et al., equation 4, times tau^2."""
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, 1e4), student)
    assert torch.allclose(gradient, (student - teacher).detach() / 4 / 6, atol=1e-4)


def test_a_step_mixes_both_losses(shapes: Dataset) -> None:
    torch.manual_seed(0)
    pooled = torch.rand(len(shapes.train), 5)
    source = FeatureSource(shapes.train, PLAIN, torch.device("cpu"), lambda indices, chosen: pooled[indices])
    student, teacher = LinearHead(5, 3), LinearHead(5, 3)
    config = RunConfig(distill=0.3, distill_temperature=2.0, label_smoothing=0.0, optimizer="sgd", lr=0.1)
    chosen = torch.arange(10)
    targets = shapes.train.labels[chosen]
    with torch.no_grad():
        logits, taught = student(pooled[:10]), teacher(pooled[:10])
    expected = 0.7 * functional.cross_entropy(logits, targets) + 0.3 * distillation_loss(logits, taught, 2.0)
    before = [parameter.clone() for parameter in teacher.parameters()]
    loss, _, _ = train_step(
        student, source, shapes.train.labels, chosen, config, ("test", 0, 0), make_optimizer(student, config), teacher
    )
    assert loss == pytest.approx(expected)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_student_that_has_learnt_everything_is_left_alone(shapes: Dataset) -> None:
    torch.manual_seed(0)
    pooled = torch.rand(len(shapes.train), 5)
    source = FeatureSource(shapes.train, PLAIN, torch.device("cpu"), lambda indices, chosen: pooled[indices])
    student: nn.Module = LinearHead(5, 3)
    config = RunConfig(distill=1.0, optimizer="sgd", lr=0.1, weight_decay=0.0)
    loss, _, _ = train_step(
        student, source, shapes.train.labels, torch.arange(10), config, ("test", 0, 0),
        make_optimizer(student, config), student,
    )  # fmt: skip
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert all(parameter.grad is not None and parameter.grad.abs().max() < 1e-6 for parameter in student.parameters())


@pytest.mark.parametrize(("option", "value"), [("distill", 1.5), ("distill", -0.1), ("distill_temperature", 0.0)])
def test_impossible_settings_are_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match="--" + option.replace("_", "-")):
        replace(RunConfig(), **{option: value})  # type: ignore[arg-type]


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    distillation_loss(student, teacher, 2.0).backward()
    assert student.grad is not None
    assert teacher.grad is None
