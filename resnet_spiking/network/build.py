"""Build the network that a configuration describes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from neurons import Mode, Neuron, NeuronParameters, make_neuron
from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.network.backbone import Backbone, Stages, split_resnet
from resnet_spiking.network.classifier import Decoder
from resnet_spiking.network.head import HeadConfig, LinearHead, SpikingHead
from resnet_spiking.network.spiking_stage import SpikingStage
from resnet_spiking.network.weights import WeightsIdentity, load_weights
from resnet_spiking.randomness import generator_for


@dataclass(frozen=True)
class Trunk:
    """The part all variants share: frozen backbone and the stages as they are before training."""

    backbone: Backbone
    stages: Stages
    identity: WeightsIdentity
    stages_sha256: str


def build_trunk(config: RunConfig, weights: str) -> Trunk:
    """Build backbone and stages with the weights that ``weights`` names (see ``load_weights``)."""
    backbone, stages = split_resnet(config.backbone, config.freeze_depth, side=config.image_size, seed=config.seed)
    identity = load_weights(weights, backbone, stages, name=config.backbone, depth=config.freeze_depth)
    return Trunk(backbone, stages, identity, state_sha256(stages))


def head_config(config: RunConfig) -> HeadConfig:
    """Return the spiking head's part of a configuration."""
    parameters = NeuronParameters(
        beta=config.beta,
        alpha=config.alpha,
        threshold=config.threshold,
        reset=config.reset,
        detach_reset=config.detach_reset,
        surrogate=config.surrogate,
        slope=config.slope,
        learn_beta=config.learn_beta,
    )
    return HeadConfig(
        config.neuron,
        cast("Mode", config.mode),
        parameters,
        config.hidden,
        config.num_steps,
        config.encoding,
        config.readout,
    )


def check_head(config: RunConfig, given: Collection[str] = ()) -> None:
    """Raise ``UserError`` when the spiking part cannot be built: before data is read or anything trained.

    ``given`` names the settings that the user chose. In native mode one that is as this package has it by default does
    not reach the library: it is refused where the library has another value of its own.
    """
    if config.neuron == "none":
        return
    try:
        head = SpikingHead(1, 1, head_config(config))
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(" ".join(str(error).split())) from None
    in_force = cast("Neuron", head.neurons[0]).effective_parameters()
    for name in given:
        value = getattr(config, name, None)
        if config.mode == "native" and value != in_force.get(name, value):
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{option} {value} does not reach {config.neuron} in native mode, which takes this package's defaults "
                f"for not given and has {in_force[name]}; leave {option} out, or use --mode shared"
            )
    if config.spiking == "stage":
        try:
            head.neurons[0](torch.zeros(1, 1, 1, 1, 1))
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"--spiking stage needs a neuron that takes feature maps [T, B, C, h, w]; {config.neuron}: {reason}"
            ) from None


def build_default(config: RunConfig, stages: nn.Module, features: int, classes: int) -> Decoder:
    """Return the Default variant's decoder: stages, pooling, linear head."""
    with _seeded(config.seed, "default head"):
        head = LinearHead(features, classes)
    return Decoder(stages, head, config.precision)


def build_spiking(config: RunConfig, stages: nn.Module, features: int, classes: int) -> Decoder:
    """Return a spiking variant's decoder: the given stages, pooling, spiking head.

    Head weights depend on the seed, not on the neuron: every neuron starts from the same ones. With
    ``--spiking stage`` the modules of stage 4 move from the stages into the head; ``calibrate`` sets what they
    need besides.
    """
    with _seeded(config.seed, "spiking head"):
        head = SpikingHead(features, classes, head_config(config))
    if config.spiking == "head":
        return Decoder(stages, head, config.precision)
    parts = OrderedDict(stages.named_children())
    last = cast(nn.Sequential, parts.pop("layer4"))
    entering = next(module.in_channels for module in last.modules() if isinstance(module, nn.Conv2d))
    spiking = SpikingStage(
        last, head, lambda: make_neuron(config.neuron, head.config.parameters, mode=head.config.mode)
    )
    return Decoder(Stages(parts, entering), spiking, config.precision)


def state_sha256(module: nn.Module) -> str:
    """Hash names and bytes of a module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _seeded(seed: int, label: str) -> Iterator[None]:
    # The CPU's generator alone: weights are drawn there, and no GPU's is touched.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator_for(seed, label).initial_seed())
        yield
