"""A network in eval mode without its BatchNorms: they are folded into the convolutions before them."""

from __future__ import annotations

import copy
import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_spiking.network.quick_convolution import QuickConv2d

_BLOCKS = (BasicBlock, Bottleneck)


def folded(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` that computes the same, up to rounding, with fewer passes over its feature maps.

    A BatchNorm with its running statistics is ``g (x - m) / s + b`` per channel: for the convolution ``W x`` before it,
    weights ``(g / s) W`` and a bias ``b - g m / s``. Folded are neighbours in an ``nn.Sequential`` and the pairs in
    the blocks of torchvision's ResNets; whatever else there is is copied as it is: a BatchNorm in train mode, a
    convolution of another class (weight standardisation, a parametrised weight), what has a hook.
    """
    copied = copy.deepcopy(network)
    for parent in list(copied.modules()):
        for first, second in _pairs(parent):
            convolution, norm = getattr(parent, first), getattr(parent, second)
            if (
                _plain(convolution, nn.Conv2d, QuickConv2d)
                and _plain(norm, nn.BatchNorm2d)
                and norm.running_var is not None
            ):
                setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, second, nn.Identity())
    return copied.requires_grad_(False)


def _pairs(parent: nn.Module) -> list[tuple[str, str]]:
    """Return the names of children of which the second gets what the first returns, and nothing else does."""
    # named_children() leaves out a module that stands in several places, such as an activation.
    names = list(parent._modules)
    if type(parent).forward is nn.Sequential.forward:
        return list(itertools.pairwise(names))
    # Other networks have the same names and another order.
    return [(f"conv{n}", f"bn{n}") for n in (1, 2, 3) if f"conv{n}" in names] if type(parent) in _BLOCKS else []


def _plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether what the module computes in eval mode is known: one of ``kinds`` itself, without a hook."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return type(module) in kinds and not module.training and not hooks
