"""3x3 convolutions by Winograd's minimal filtering: a quarter of the multiplications."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neurons.second_order import refuse_if_wanted

TILE = 4
"""Output pixels of a tile along each axis."""
KERNEL = 3
PATCH = TILE + KERNEL - 1
"""Input pixels that a tile's outputs see along each axis."""
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""Where the polynomials are evaluated, besides infinity.

Among small rationals the choice with the least rounding for F(4, 3): Barabasz, Anderson, Soodhalter and Gregg, "Error
analysis and improving the accuracy of Winograd convolution for deep neural networks", arXiv:1803.10986.
"""


class Transforms(NamedTuple):
    """Of patches ``[36, 36]``, kernels ``[36, 9]`` and outputs ``[16, 36]``, each of pixels in row-major order."""

    patch: Tensor
    kernel: Tensor
    output: Tensor


def minimal_filtering(images: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution ``[B, O, H, W]`` of ``images [B, C, H, W]`` and ``weight [O, C, 3, 3]``, padding 1.

    The map is cut into tiles of 4x4 output pixels; with a tile's patch d of 6x6 input pixels and a kernel g, both for
    one channel,

        y = A^T [ sum_C (G g G^T) * (B^T d B) ] A

    where * multiplies elements: 36 products where the definition has 16 x 9 = 144. The 36 sums over the channels are
    matrix products. Output is channels last in memory. In fp32 the rounding error is two to ten times that of torch's
    convolution, about 2e-6 of the output (512 channels), by how well the processor's convolution sums; it is
    differentiable with respect to both operands; second derivatives are refused.

    Source: Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for
    convolutional neural networks", arXiv:1509.09308, F(4x4, 3x3).
    """
    result: Tensor = _MinimalFiltering.apply(images, weight)
    return result


@cache
def transforms(dtype: torch.dtype) -> Transforms:
    """Return the matrices for whole patches: the Kronecker square of those for one axis.

    Correlation with a kernel is the transpose of the product of two polynomials, of degrees 3 and 2. The product is
    found from its values at six points: evaluation is a Vandermonde matrix V_k of k columns, hence A = V_4, G = V_3
    and B = V_6^-1.
    """
    output, kernel, patch = _evaluation(TILE).T, _evaluation(KERNEL), torch.linalg.inv(_evaluation(PATCH)).T
    return Transforms(*(torch.kron(axis, axis).to(dtype) for axis in (patch, kernel, output)))


def _evaluation(count: int) -> Tensor:
    """Return the matrix that takes ``count`` coefficients to values at ``POINTS`` and at infinity (the last one)."""
    points = torch.tensor(POINTS, dtype=torch.float64)
    return torch.cat([points[:, None] ** torch.arange(count), torch.eye(count, dtype=torch.float64)[-1:]])


def tiles_of(height: int, width: int) -> tuple[int, int]:
    """Return how many tiles cover a map, along each axis."""
    return -(-height // TILE), -(-width // TILE)


class _MinimalFiltering(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, weight: Tensor) -> Tensor:
        matrices = transforms(images.dtype)
        count, channels, height, width = images.shape
        rows, columns = tiles_of(height, width)
        patches = _patches_of(images, matrices.patch)
        kernels = matrices.kernel @ weight.permute(2, 3, 0, 1).reshape(KERNEL**2, -1)
        kernels = kernels.view(PATCH**2, len(weight), channels)
        products = torch.bmm(patches, kernels.transpose(1, 2))
        outputs = (matrices.output @ products.flatten(1)).view(TILE, TILE, count, rows, columns, len(weight))
        context.save_for_backward(patches, kernels)
        context.shape = images.shape
        whole = outputs.permute(2, 3, 0, 4, 1, 5).reshape(count, rows * TILE, columns * TILE, len(weight))
        return whole[:, :height, :width].contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        refuse_if_wanted("QuickConv2d while it trains", "use nn.Conv2d")
        patches, kernels = context.saved_tensors
        count, channels, height, width = context.shape
        rows, columns = tiles_of(height, width)
        matrices = transforms(gradient.dtype)
        made = gradient.shape[1]
        spare = (0, 0, 0, columns * TILE - width, 0, rows * TILE - height)
        outputs = functional.pad(gradient.permute(0, 2, 3, 1), spare).view(count, rows, TILE, columns, TILE, made)
        outputs = outputs.permute(2, 4, 0, 1, 3, 5).reshape(TILE**2, -1)
        products = (matrices.output.t() @ outputs).view(PATCH**2, -1, made)
        to_images = to_weight = None
        if context.needs_input_grad[0]:
            to_images = _images_of(torch.bmm(products, kernels), matrices.patch, context.shape)
        if context.needs_input_grad[1]:
            to_kernels = torch.bmm(products.transpose(1, 2), patches)
            to_weight = (matrices.kernel.t() @ to_kernels.flatten(1)).view(KERNEL, KERNEL, made, channels)
            to_weight = to_weight.permute(2, 3, 0, 1)
        return to_images, to_weight


def _patches_of(images: Tensor, transform: Tensor) -> Tensor:
    """Return the transformed patches ``[36, B * tiles, C]`` of ``images``."""
    channels, height, width = images.shape[1:]
    tiles = tiles_of(height, width)
    if tiles == (1, 1):
        transform, pixels = _of_one_tile(transform, height, width), images.permute(2, 3, 0, 1).flatten(0, 1)
    else:
        pixels = _overlapping(images, tiles).flatten(0, 1)
    return (transform @ pixels.flatten(1)).view(PATCH**2, -1, channels)


def _images_of(patches: Tensor, transform: Tensor, shape: torch.Size) -> Tensor:
    """Return the transpose of ``_patches_of``: a gradient ``[36, B * tiles, C]`` as one to images of ``shape``."""
    count, channels, height, width = shape
    tiles = tiles_of(height, width)
    if tiles == (1, 1):
        pixels = _of_one_tile(transform, height, width).t() @ patches.flatten(1)
        return pixels.view(height, width, count, channels).permute(2, 3, 0, 1)
    pixels = (transform.t() @ patches.flatten(1)).view(PATCH, PATCH, count, *tiles, channels)
    return _summed(pixels)[:, 1 : 1 + height, 1 : 1 + width].permute(0, 3, 1, 2)


def _of_one_tile(transform: Tensor, height: int, width: int) -> Tensor:
    """Return the transform ``[36, height * width]`` of a map that is one tile: the rest of its patch is padding."""
    return transform.view(-1, PATCH, PATCH)[:, 1 : 1 + height, 1 : 1 + width].flatten(1)


def _overlapping(images: Tensor, tiles: tuple[int, int]) -> Tensor:
    """Return the overlapping patches ``[6, 6, B, rows, columns, C]`` of the padded images, without a copy of them."""
    count, channels, height, width = images.shape
    padded = images.new_zeros(count, tiles[0] * TILE + 2, tiles[1] * TILE + 2, channels)
    padded[:, 1 : 1 + height, 1 : 1 + width] = images.permute(0, 2, 3, 1)
    image, row, column, _ = padded.stride()
    return padded.as_strided(
        (PATCH, PATCH, count, *tiles, channels), (row, column, image, TILE * row, TILE * column, 1)
    )


def _summed(patches: Tensor) -> Tensor:
    """Return the sum ``[B, H, W, C]`` of overlapping patches ``[6, 6, B, rows, columns, C]``."""
    _, _, count, rows, columns, channels = patches.shape
    sums = patches.new_zeros(count, rows + 1, TILE, columns + 1, TILE, channels)
    cells = sums.permute(2, 4, 0, 1, 3, 5)
    cells[:, :, :, :rows, :columns] = patches[:TILE, :TILE]
    # What a patch has beyond its tile's size lies in the first pixels of the next tile.
    cells[: PATCH - TILE, :, :, 1:, :columns] += patches[TILE:, :TILE]
    cells[:, : PATCH - TILE, :, :rows, 1:] += patches[:TILE, TILE:]
    cells[: PATCH - TILE, : PATCH - TILE, :, 1:, 1:] += patches[TILE:, TILE:]
    return sums.view(count, (rows + 1) * TILE, (columns + 1) * TILE, channels)
