"""Train the encoder that the package ships: a ResNet from random weights, cut after a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional
from torchvision import models

from resnet_spiking.data.augment import flip_randomly, shift_randomly
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.network.preprocess import Preprocess
from resnet_spiking.randomness import generator_for
from resnet_spiking.storage.files import write_atomically


@dataclass(frozen=True)
class EncoderRecipe:
    """Nesterov SGD with a one-cycle learning rate; the first epochs see smaller images.

    ``sides`` is the image side of each epoch in pixels; the last one is what accuracy is
    reported at.
    """

    sides: tuple[int, ...] = (48,) * 7 + (64,) * 4
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    shift: int = 4
    seed: int = 0


def train_encoder(
    data: Dataset, recipe: EncoderRecipe, on_step: Callable[[int, int, int, float], None]
) -> tuple[nn.Module, float]:
    """Train ResNet-18 from random weights; return it in eval mode with its bf16-rounded test accuracy.

    ``on_step(epoch, step, steps, loss)`` is called after each optimiser step. Convolutions run
    in bf16, the accuracy is measured in fp32 with the weights rounded to bf16, as they are stored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        network = models.resnet18(num_classes=len(data.classes)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=recipe.lr, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    steps = len(data.train) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=steps * len(recipe.sides))
    for epoch, side in enumerate(recipe.sides):
        network.train()
        order = torch.randperm(len(data.train), generator=generator_for(recipe.seed, "order", epoch))
        for step in range(steps):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            draw = generator_for(recipe.seed, "augment", epoch, step)
            pixels = shift_randomly(data.train.pixels(chosen), recipe.shift, draw)
            images = Preprocess(side)(flip_randomly(pixels, draw) if data.flip else pixels)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images)
            loss = functional.cross_entropy(
                logits.float(), data.train.labels[chosen], label_smoothing=recipe.label_smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            on_step(epoch, step, steps, loss.item())
    network.eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.bfloat16())
    return network, _accuracy(network, data.test, recipe)


def save_encoder(network: nn.Module, path: Path, depth: int, description: dict[str, str]) -> None:
    """Store the stem and the first ``depth`` stages as bf16 safetensors, torchvision's names."""
    stages = ("conv1.", "bn1.", *(f"layer{stage}." for stage in range(1, depth + 1)))
    kept = {
        name: tensor.bfloat16().contiguous()
        for name, tensor in network.state_dict().items()
        if name.startswith(stages) and tensor.is_floating_point()
    }
    # Written by us: save_file lets nobody but the owner read its files.
    write_atomically(path, lambda temporary: temporary.write_bytes(save(kept, metadata=description)))


def describe(recipe: EncoderRecipe) -> dict[str, str]:
    """Return the recipe as the string pairs that a safetensors header holds."""
    return {name: str(value) for name, value in asdict(recipe).items()}


@torch.no_grad()
def _accuracy(network: nn.Module, images: ImageSet, recipe: EncoderRecipe) -> float:
    correct = 0
    for chosen in torch.arange(len(images)).split(recipe.batch_size):
        logits = network(Preprocess(recipe.sides[-1])(images.pixels(chosen)))
        correct += int((logits.argmax(1) == images.labels[chosen]).sum())
    return correct / len(images)
