"""Stage 4 of a ResNet with neurons in the place of its ReLUs, followed by a spiking head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast, final

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from neurons import Neuron
from resnet_spiking.network.head import HeadConfig, SpikingHead


@final
class SpikingLayer(nn.Module):
    """A neuron in the place of one ReLU.

    The pre-activation ``z`` of the ReLU becomes the current ``x[t] = gain (z[t] + shift)``, with two
    learnable scalars that ``calibrate`` sets. Without them a neuron is silent or saturated on
    pre-activations that were trained for a ReLU.
    """

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.gain = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        """Return spikes ``[T, B, C, h, w]`` for ``z`` of that shape, or ``[B, C, h, w]`` where it is constant."""
        # Half precision ends here: what a neuron integrates is fp32.
        current = self.gain * (z.to(torch.promote_types(z.dtype, torch.float32)) + self.shift)
        if current.ndim == 4:
            current = current.expand(steps, -1, -1, -1, -1)
        # A neuron is elementwise: channels last it reads and writes memory in the order of the convolutions.
        spikes, _ = self.neuron(current.permute(0, 1, 3, 4, 2), generator=generator)
        return spikes.permute(0, 1, 4, 2, 3)


@final
class SpikingBlock(nn.Module):
    """A residual block whose ReLUs are neurons; convolutions and BatchNorms are those of the given block.

    With inputs ``y`` (spikes, or the constant maps that enter the stage), for K = 2 (``BasicBlock``) or
    3 (``Bottleneck``) convolutions:

        s_1[t] = N(g_1 (BN_1(W_1 y[t]) + d_1)),  …,  s_K[t] = N(g_K (BN_K(W_K s_{K-1}[t]) + shortcut(y[t]) + d_K))

    The residual connection is a current: ``shortcut(y) = BN(W y)`` where the block has a downsampling
    convolution, else ``v y`` with a learnable scalar ``v``. What leaves a block is therefore 0 or 1
    and never a sum of spikes.

    Time is folded into the batch: each convolution is one call on ``[T B, C, h, w]``, and BatchNorm's
    statistics run over time, batch and positions together (Zheng et al., "Going deeper with
    directly-trained larger spiking neural networks", AAAI 2021, there called tdBN); in eval mode it is
    an affine map that does not depend on t. A constant input is convolved once, not T times.
    """

    def __init__(self, block: BasicBlock | Bottleneck, make: Callable[[], Neuron]) -> None:
        super().__init__()
        self.depth = 3 if isinstance(block, Bottleneck) else 2
        for index in range(1, self.depth + 1):
            for name in (f"conv{index}", f"bn{index}"):
                self.add_module(name, getattr(block, name))
            self.add_module(f"spike{index}", SpikingLayer(make()))
        self.downsample = block.downsample
        self.shortcut = nn.Parameter(torch.ones(())) if block.downsample is None else None

    @property
    def layers(self) -> list[SpikingLayer]:
        """The neurons, in the order in which they fire."""
        return [getattr(self, f"spike{index}") for index in range(1, self.depth + 1)]

    def forward(self, inputs: Tensor, steps: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Return the spikes ``[T, B, C_k, h, w]`` of each layer; the last are the block's output.

        ``inputs`` are spikes ``[T, B, C, h, w]``, or maps ``[B, C, h, w]`` that are the same at every step.
        """
        fired: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            fired.append(layer(self.preactivation(index, [inputs, *fired]), steps, generator))
        return fired

    def preactivation(self, index: int, signals: list[Tensor]) -> Tensor:
        """Return ``z`` of layer ``index`` from the block's input and the spikes of the layers before it."""
        convolve, normalise = getattr(self, f"conv{index + 1}"), getattr(self, f"bn{index + 1}")
        z = _each_step(lambda maps: normalise(convolve(maps)), signals[index])
        return z + self._shortcut(signals[0]) if index == self.depth - 1 else z

    def _shortcut(self, inputs: Tensor) -> Tensor:
        if self.downsample is not None:
            return _each_step(self.downsample, inputs)
        return cast(Tensor, self.shortcut) * inputs


@final
class SpikingStage(nn.Module):
    """Stage 4 and the head over T steps: maps ``[B, C, h, w]`` to logits ``[B, classes]`` that only spikes determine.

    The maps are the stage's input at every step (``direct``), or Bernoulli spikes of their min-max
    normalised values (``rate``). Spikes of the last block are averaged over the positions and weighted,
    ``p[t] = scale mean_hw s[t]``, and ``p [T, B, F]`` is what the head's first linear layer reads.

    Takes over the modules of ``stage`` (torchvision's ``layer4``); ``head`` has the neurons' configuration.
    Convolutions follow the autocast around the call; neurons and head compute in fp32.
    """

    on_maps = True

    def __init__(self, stage: nn.Sequential, head: SpikingHead, make: Callable[[], Neuron]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SpikingBlock(cast("BasicBlock | Bottleneck", block), make) for block in stage.children()
        )
        self.scale = nn.Parameter(torch.ones(()))
        self.head = head

    @property
    def config(self) -> HeadConfig:
        return self.head.config

    @property
    def neurons(self) -> list[Neuron]:
        """All neurons in the order of ``trace``'s spikes."""
        own = [layer.neuron for block in self._blocks() for layer in block.layers]
        return [*own, *cast("Iterable[Neuron]", self.head.neurons)]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """A name for each entry of ``trace``'s list of spikes."""
        own = [f"layer4.{n}.spike{k}" for n, block in enumerate(self._blocks()) for k in range(1, block.depth + 1)]
        return (*own, *(f"head {name}" for name in self.head.layer_names))

    @property
    def spiking(self) -> bool:
        return all(neuron.spiking for neuron in self.neurons)

    @property
    def stochastic(self) -> bool:
        return self.head.stochastic

    def forward(self, maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return logits ``[B, classes]`` for maps ``[B, C, h, w]``."""
        return self.trace(maps, generator)[0]

    def trace(self, maps: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return logits and each layer's spikes, ``[T, B, C_k, h, w]`` in the stage and ``[T, B, N_k]`` in the head."""
        fired: list[Tensor] = []
        signal = self.encode(maps, generator)
        for block in self._blocks():
            fired += block(signal, self.config.num_steps, generator)
            signal = fired[-1]
        with torch.autocast(maps.device.type, enabled=False):
            logits, in_head = self.head.trace_steps(self.scale * signal.mean((-2, -1)), generator)
        return logits, [*fired, *in_head]

    def logits(self, spikes: Tensor) -> Tensor:
        """Return the logits ``[B, classes]`` that the last layer's spikes ``[T, B, N]`` alone determine."""
        return self.head.logits(spikes)

    def encode(self, maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the input of the first block: the maps, or spikes ``[T, B, C, h, w]``."""
        if self.config.encoding == "direct":
            return maps
        return self.head.rate_encode(maps.flatten(1), self.config.num_steps, generator).unflatten(2, maps.shape[1:])

    def _blocks(self) -> Iterable[SpikingBlock]:
        return cast("Iterable[SpikingBlock]", self.blocks)


def _each_step(layer: Callable[[Tensor], Tensor], signal: Tensor) -> Tensor:
    """Apply ``layer`` to maps ``[B, C, h, w]`` or, in one call, to every step of ``[T, B, C, h, w]``."""
    if signal.ndim == 4:
        return layer(signal)
    return layer(signal.flatten(0, 1)).unflatten(0, signal.shape[:2])
