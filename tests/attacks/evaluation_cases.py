"""Small models on the embedded digits, planted ones that must be caught, and a bundle of seconds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from neurons import NeuronParameters
from resnet_spiking.attacks.best import Outcome
from resnet_spiking.attacks.bundles import Bundle, Checking, Stage
from resnet_spiking.attacks.settings import Settings
from resnet_spiking.attacks.subjects import Sample
from resnet_spiking.attacks.target import Target, make_target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.data.digits import load_digits
from resnet_spiking.network.head import HeadConfig, SpikingHead

CHECKING = Checking(images=8, survivors=4, steps=5, long_steps=10, restarts=2, probes=20)
TINY = Bundle(
    "tiny",
    "seconds",
    stages=(
        Stage("noise", options={"tries": 2}, everything=True),
        Stage("fgsm", everything=True),
        Stage("pgd", options={"steps": 3}, everything=True),
        Stage("sapgd", "assg", {"steps": 4}),
        Stage("apgd-ce", "atan:2", {"steps": 5}),
        Stage("apgd-t", "best", {"steps": 3, "classes": 2}),
        Stage("transfer", source="default", options={"steps": 4}),
        Stage("square", options={"queries": 10}, first=5),
    ),
    minimum_norm=Stage("fmn", "atan:2", {"steps": 8}),
    checking=CHECKING,
)


def settings_for(bundle: Bundle = TINY, eps: tuple[float, ...] = (0.02, 0.08, 0.3), **others: Any) -> Settings:
    return Settings(bundle, others.pop("norm", "linf"), eps, **{"batch_size": 7, "draws": 3, "votes": 5, **others})


@lru_cache
def digits_sample(count: int) -> Sample:
    data = load_digits()
    return Sample(data.test, data.test.balanced(count), data.name, data.sha256)


@lru_cache
def _training() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return data.train.images.float().flatten(1) / 255, data.train.labels


def linear_digits(scale: float = 1.0) -> nn.Sequential:
    """Least squares to one-hot labels: about nine in ten right, and everything about it has a closed form."""
    images, labels = _training()
    rows = torch.cat([images, torch.ones(len(images), 1)], 1)
    solution = torch.linalg.lstsq(rows, nn.functional.one_hot(labels, 10).float(), driver="gelsd").solution
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(scale * solution[:-1].T)
        layer.bias.copy_(scale * solution[-1])
    return nn.Sequential(nn.Flatten(), layer).eval()


def spiking_digits(neuron: str, seed: int = 0) -> nn.Module:
    """A trained spiking head on the pixels."""
    images, labels = _training()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = SpikingHead(64, 10, HeadConfig(neuron, parameters=NeuronParameters(), hidden=(32,), num_steps=4))
        optimiser = torch.optim.Adam(head.parameters(), lr=2e-2)
        for _ in range(40):
            loss = nn.functional.cross_entropy(head(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return nn.Sequential(nn.Flatten(), head).eval()


class WithoutGradient(nn.Module):
    """A mask: the logits of ``inner``, and no gradient to the pixels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.detach())


class Noisy(WithoutGradient):
    """``inner`` plus noise from torch's global generator, which it does not declare."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.inner(images)
        return logits + 0.5 * torch.randn_like(logits)


class NanOffGrid(WithoutGradient):
    """``inner`` on 8-bit images, NaN elsewhere: an attacker sees nothing else."""

    def forward(self, images: Tensor) -> Tensor:
        levels = images * 255
        off = ((levels - levels.round()).abs() > 1e-3).flatten(1).any(1)
        return torch.where(off[:, None], torch.nan, self.inner(images))


class Counting(WithoutGradient):
    """Counts the images that pass through ``inner``."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return self.inner(images)


def junk(
    target: Target, images: Tensor, labels: Tensor, threat: Threat, *, generator: torch.Generator, kind: str
) -> Outcome:
    """Claim success with images that must not count."""
    moved = {
        "nan": torch.full_like(images, torch.nan),
        "outside ball": 1 - images,
        "outside box": images - 2,
        "clean": images,
    }[kind]
    yes = torch.ones(len(images), dtype=torch.bool)
    return Outcome(moved, yes, torch.ones(len(images)), torch.ones(len(images), dtype=torch.long))


def target_for(model: nn.Module, sample: Sample, settings: Settings) -> Target:
    return make_target(model, sample.pixels()[:8], draws=settings.draws, votes=settings.votes, rule=settings.rule)
