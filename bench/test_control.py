"""Our attacks against other libraries' on a smooth control, a Default network: neither may be the weaker one.

pytest bench/test_control.py                                    # a Default trained here on the digits, 64 images
pytest bench/test_control.py --run DEFAULT_RUN --data-dir DIR --weights FILE --images 500
pytest bench/test_control.py -k apgd                            # or: -k norm

Both sides see the images that are classified right, in batches of 128, with equal budgets; all are judged by the same
rule on the images that they return. What is recorded is robust accuracy, or the median norm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import foolbox
import pytest
import torch
import torchattacks
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from attacks_models import Victim, find_control

from resnet_spiking.attacks.apgd import apgd, apgd_targeted
from resnet_spiking.attacks.deepfool import deepfool
from resnet_spiking.attacks.fmn import fmn
from resnet_spiking.attacks.minimum import MinimumNorm
from resnet_spiking.attacks.target import Target, attackable, make_target
from resnet_spiking.attacks.threat import Norm, Threat, norm_of
from resnet_spiking.randomness import generator_for

pytestmark = pytest.mark.usefixtures("asked_threads")

BATCH = 128
EPS = 1 / 255
STEPS = 100
TARGETS = 3
Attack = Callable[[Target, nn.Module, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def control(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A Default network with those of the images that it classifies right."""
    option = request.config.getoption
    try:
        found = find_control(
            option("--run"),
            count=option("--images"),
            data_dir=option("--data-dir"),
            weights=option("--weights"),
            scratch=tmp_path_factory.mktemp("runs"),
        )
    except LookupError as error:
        pytest.fail(str(error))
    right = standing(found.model, found.images, found.labels)
    return Victim(found.name, found.model, found.images[right], found.labels[right])


@torch.no_grad()
def standing(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images are classified right."""
    parts = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    return torch.cat([model(part).argmax(1) == wanted for part, wanted in parts])


def attacked(victim: Victim, attack: Attack) -> Tensor:
    """Return adversarial images, by batches."""
    with attackable(victim.model):
        target = make_target(victim.model, victim.images[:BATCH])
        parts = zip(victim.images.split(BATCH), victim.labels.split(BATCH), strict=True)
        return torch.cat([attack(target, victim.model, *part).detach() for part in parts])


def _ours(loss: str) -> Attack:
    def run(target: Target, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        generator, threat = generator_for(0, "control", loss), Threat("linf", EPS)
        if loss == "ce":
            return apgd(target, images, labels, threat, generator=generator, steps=STEPS).images
        return apgd_targeted(
            target, images, labels, threat, generator=generator, steps=STEPS, classes=TARGETS, loss="dlr"
        ).images

    return run


def _theirs(loss: str) -> Attack:
    def run(target: Target, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        if loss == "ce":
            return torchattacks.APGD(model, eps=EPS, steps=STEPS)(images, labels)
        return torchattacks.APGDT(model, eps=EPS, steps=STEPS, n_classes=TARGETS + 1)(images, labels)

    return run


APGD = {"ours": _ours, "torchattacks": _theirs}


@pytest.fixture(scope="module")
def robust() -> dict[tuple[str, str], float]:
    return {}


@pytest.mark.parametrize("contender", APGD)
@pytest.mark.parametrize("loss", ["ce", "t"])
def test_apgd(
    benchmark: BenchmarkFixture, control: Victim, robust: dict[tuple[str, str], float], loss: str, contender: str
) -> None:
    count = len(control.labels)
    benchmark.group = f"APGD-{loss.upper()}, {STEPS} iterations at 1/255, {control.name}, {count} images"
    found = benchmark.pedantic(attacked, (control, APGD[contender](loss)), rounds=1, iterations=1)
    assert float((found - control.images).abs().max()) <= EPS + 1e-6
    still = float(standing(control.model, found, control.labels).float().mean())
    robust[loss, contender] = benchmark.extra_info["robust"] = still
    if contender != "ours":
        # Half a point, or one image where that is more: random starts differ.
        assert robust[loss, "ours"] <= still + max(0.005, 1 / count)


def _ours_nearest(name: str, norm: Norm) -> Attack:
    attack: Callable[..., MinimumNorm] = fmn if name == "fmn" else deepfool

    def run(target: Target, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return attack(target, images, labels, norm=norm, generator=generator_for(0, "control", name)).images

    return run


def _foolbox(norm: Norm) -> Attack:
    attack = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}[norm]()

    def run(target: Target, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        _, found, _ = attack(wrapped, images, labels, epsilons=None)
        return found

    return run


def _torchattacks_deepfool(target: Target, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return torchattacks.DeepFool(model, steps=50)(images, labels)


NORMS: tuple[Norm, ...] = ("linf", "l2")
# FMN comes first in each norm: the others are compared with it.
NEAREST: dict[tuple[Norm, str], Attack] = {
    **{(norm, f"our {name}"): _ours_nearest(name, norm) for norm in NORMS for name in ("fmn", "deepfool")},
    **{(norm, "foolbox deepfool"): _foolbox(norm) for norm in NORMS},
    ("l2", "torchattacks deepfool"): _torchattacks_deepfool,
}


@pytest.fixture(scope="module")
def medians() -> dict[tuple[str, str], float]:
    return {}


@pytest.mark.parametrize(("norm", "name"), NEAREST)
def test_norm(
    benchmark: BenchmarkFixture, control: Victim, medians: dict[tuple[str, str], float], norm: Norm, name: str
) -> None:
    benchmark.group = f"median {norm} norm in 1/255, {control.name}, {len(control.labels)} images"
    found = benchmark.pedantic(attacked, (control, NEAREST[norm, name]), rounds=1, iterations=1)
    fallen = ~standing(control.model, found, control.labels)
    # What still stands has no norm: it is farther away than any.
    norms = norm_of(found - control.images, norm).masked_fill(~fallen, torch.inf)
    medians[norm, name] = float(norms.median()) * 255
    benchmark.extra_info |= {"median": medians[norm, name], "fallen": float(fallen.float().mean())}
    assert medians[norm, "our fmn"] <= medians[norm, name]
