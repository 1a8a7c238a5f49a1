"""Our attacks against torchattacks: an eps-sweep, EOT, and what every attack costs; ratios from one run.

pytest bench/test_attacks.py                                    # heads trained here on the digits, 64 images
pytest bench/test_attacks.py --run RUN --run STOCHASTIC_RUN --data-dir DIR --weights FILE --images 500
pytest bench/test_attacks.py -k test_sweep                      # one part: test_sweep, test_eot or test_cost

Runs are folders of resnet_spiking.train; the first with a deterministic head is swept, the first
with a stochastic one meets EOT. Both sides attack the surrogate that the head was trained with, in batches
of 128, and are judged by the same rule on the images that they return. torchattacks gets the model
as it is after loading, ready to train. Each timing is one round: half a minute to hours.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from attacks_models import Victim, find_victim

from resnet_spiking.attacks.bundles import single
from resnet_spiking.attacks.losses import cross_entropy
from resnet_spiking.attacks.names import ATTACKS
from resnet_spiking.attacks.pgd import pgd
from resnet_spiking.attacks.settings import ORDERS, Order, Settings
from resnet_spiking.attacks.subjects import Sample, Subject
from resnet_spiking.attacks.sweep import sweep
from resnet_spiking.attacks.target import Meter, Target, attackable, make_target
from resnet_spiking.attacks.threat import Threat
from resnet_spiking.data.images import ImageSet
from resnet_spiking.randomness import generator_for

pytestmark = pytest.mark.usefixtures("asked_threads")

BATCH = 128
LEVELS = (0.25, 0.5, 1, 2, 4, 8)
DRAWS = 20
PGD_STEPS = 10
# At this radius a tenth of the images or more still stands, so that attacks have work to do.
COST_EPS = 0.5 / 255
# Attacks that go through images one at a time, class by class, or query by query.
SLOW = {"ta-deepfool": 16, "ta-cw": 4, "ta-autoattack": 16, "ta-square": 16, "square": 16}


@pytest.fixture(scope="module")
def deterministic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return _victim(request.config, tmp_path_factory, stochastic=False)


@pytest.fixture(scope="module")
def stochastic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return _victim(request.config, tmp_path_factory, stochastic=True)


def _victim(config: pytest.Config, scratch: pytest.TempPathFactory, *, stochastic: bool) -> Victim:
    try:
        return find_victim(
            config.getoption("--run"),
            stochastic=stochastic,
            count=config.getoption("--images"),
            data_dir=config.getoption("--data-dir"),
            weights=config.getoption("--weights"),
            scratch=scratch.mktemp("runs"),
        )
    except LookupError as error:
        pytest.fail(str(error))


def batches(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))


def standing(target: Target, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images are classified right, by draws that no attack has seen."""
    generator = generator_for(0, "judge")
    return torch.cat([target.correct(images[part], labels[part], generator) for part in batches(len(labels))])


def our_sweep(order: Order) -> Callable[[nn.Module, Tensor, Tensor], list[Tensor]]:
    """Return APGD-100 at all eps as ``--attack apgd-ce --order ...`` runs it: only what is not known is attacked."""

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
        pixels = ImageSet((images * 255).round().byte(), labels, tuple(map(str, range(int(labels.max()) + 1))))
        sample = Sample(pixels, torch.arange(len(labels)), "bench", "")
        eps = tuple(level / 255 for level in LEVELS)
        settings = Settings(single("apgd-ce"), "linf", eps, batch_size=BATCH, order=order)
        with attackable(model):
            table = sweep(Subject("bench", model), make_target(model, images), sample, settings).examples
        broken, adversarial = torch.from_numpy(table.broken)[:, None, None, None], torch.from_numpy(table.adversarial)
        return [torch.where(broken <= radius, adversarial, images) for radius in range(len(LEVELS))]

    return run


def sweep_everything(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """torchattacks' APGD, 100 iterations, at each eps on every image."""
    import torchattacks

    found = []
    for level in LEVELS:
        attack = torchattacks.APGD(model, eps=level / 255, steps=100)
        found.append(torch.cat([attack(images[part], labels[part]).detach() for part in batches(len(labels))]))
    return found


@pytest.fixture(scope="module")
def robust() -> dict[str, list[int]]:
    """How many images stand at each eps by contender, as they come."""
    return {}


SWEEPS = {**{order: our_sweep(order) for order in ORDERS}, "torchattacks": sweep_everything}


@pytest.mark.parametrize("contender", SWEEPS)
def test_sweep(
    benchmark: BenchmarkFixture, deterministic: Victim, robust: dict[str, list[int]], contender: str
) -> None:
    model, images, labels = deterministic.model, deterministic.images, deterministic.labels
    benchmark.group = f"APGD-100 at {len(LEVELS)} eps, {deterministic.name}, {len(labels)} images"
    found = benchmark.pedantic(SWEEPS[contender], (model, images, labels), rounds=1, iterations=1)
    with attackable(model):
        target = make_target(model, images)
        for level, adversarial in zip(LEVELS, found, strict=True):
            assert float((adversarial - images).abs().max()) <= level / 255 + 1e-6
        robust[contender] = [int(standing(target, each, labels).sum()) for each in found]
    benchmark.extra_info |= {
        f"{level:g}/255": left / len(labels) for level, left in zip(LEVELS, robust[contender], strict=True)
    }
    if contender == "torchattacks":
        for order in set(robust) - {contender}:
            for ours, theirs in zip(robust[order], robust[contender], strict=True):
                # Their random starts differ: a single image may fall to one of them alone.
                assert ours <= theirs + 1
            assert sum(robust[order]) <= sum(robust[contender]) + 1


def our_eot(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    with attackable(model):
        target = make_target(model, images[:8], draws=DRAWS)
        return torch.cat(
            [
                pgd(
                    target,
                    images[part],
                    labels[part],
                    Threat("linf", eps),
                    generator=generator_for(0, "pgd", part.start),
                    steps=PGD_STEPS,
                ).images
                for part in batches(len(labels))
            ]
        )


def their_eot(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    import torchattacks

    alpha = 2.5 * eps / PGD_STEPS
    attack = torchattacks.EOTPGD(model, eps=eps, alpha=alpha, steps=PGD_STEPS, eot_iter=DRAWS)
    return torch.cat([attack(images[part], labels[part]) for part in batches(len(labels))])


@pytest.mark.parametrize("contender", ["ours", "torchattacks"])
def test_eot_attack(benchmark: BenchmarkFixture, stochastic: Victim, contender: str) -> None:
    model, images, labels = stochastic.model, stochastic.images, stochastic.labels
    benchmark.group = f"PGD-{PGD_STEPS} at 0.5/255 over {DRAWS} draws, {stochastic.name}, {len(labels)} images"
    run = our_eot if contender == "ours" else their_eot
    found = benchmark.pedantic(run, (model, images, labels, 0.5 / 255), rounds=1, iterations=1)
    with attackable(model):
        still = standing(make_target(model, images[:8], draws=DRAWS, votes=41), found, labels)
    benchmark.extra_info["robust"] = float(still.float().mean())


@pytest.mark.parametrize("contender", ["ours", "torchattacks"])
def test_eot_gradient(benchmark: BenchmarkFixture, stochastic: Victim, contender: str) -> None:
    """One mean gradient of a batch, which neither early stop nor survivors can shorten."""
    model, images, labels = stochastic.model, stochastic.images[:BATCH], stochastic.labels[:BATCH]
    benchmark.group = f"gradient over {DRAWS} draws, {stochastic.name}, {len(labels)} images"
    if contender == "torchattacks":
        import torchattacks

        attack = torchattacks.EOTPGD(model, eps=1e-3, alpha=1e-4, steps=1, eot_iter=DRAWS)
        benchmark.pedantic(attack, (images, labels), rounds=3, warmup_rounds=1)
        return
    with attackable(model):
        target = make_target(model, images[:8], draws=DRAWS)
        benchmark.pedantic(target.step, (images, labels, cross_entropy, generator_for(0, "eot")), rounds=3)


@pytest.mark.parametrize("name", ATTACKS)
def test_cost(benchmark: BenchmarkFixture, deterministic: Victim, name: str) -> None:
    """Forward and backward passes an image, as the target's meter counts them, and the share that falls."""
    entry = ATTACKS[name]
    norm = entry.norms[0]
    count = SLOW.get(name, BATCH)
    images, labels = deterministic.images[:count], deterministic.labels[:count]
    benchmark.group = f"cost an image at 0.5/255, {deterministic.name}"
    with attackable(deterministic.model):
        target = make_target(deterministic.model, images)
        benchmark.pedantic(_run(name, target, images, labels, norm), rounds=1, iterations=1)
    meter: Meter = target.meter
    benchmark.extra_info |= {
        "images": len(labels),
        "forwards": meter.forwards / len(labels),
        "backwards": meter.backwards / len(labels),
    }


def _run(name: str, target: Target, images: Tensor, labels: Tensor, norm: str) -> Callable[[], object]:
    entry = ATTACKS[name]
    function = entry.load()
    generator = generator_for(0, name)
    options = dict(entry.preset)
    if "source" in inspect.signature(function).parameters:
        # From itself: what a transfer costs does not depend on where it comes from.
        options["source"] = target
    aim = norm if entry.kind == "minimum-norm" else Threat("l2" if norm == "l2" else "linf", COST_EPS)
    target.meter.forwards = target.meter.backwards = 0
    return lambda: function(target, images, labels, aim, generator=generator, **options)
