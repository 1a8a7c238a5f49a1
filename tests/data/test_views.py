from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_spiking.data.views import Views

PIXELS = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
INDICES = torch.tensor([5, 4099, 0, 17, 9000, 3])


def of_each(view: int) -> torch.Tensor:
    return torch.full((6,), view)


def test_view_zero_is_the_image_and_an_odd_one_its_mirror_image() -> None:
    views = Views(flip=True, shifts=2)
    assert views.count == 6
    assert torch.equal(views.apply(PIXELS, INDICES, of_each(0)), PIXELS)
    for even in (0, 2, 4):
        image, mirrored = (views.apply(PIXELS, INDICES, of_each(view)) for view in (even, even + 1))
        assert torch.equal(mirrored, image.flip(-1))


def test_a_shift_is_a_cut_of_the_reflected_image_within_an_eighth() -> None:
    shifted = Views(shifts=1).apply(PIXELS, INDICES, of_each(1)).numpy()
    padded = np.pad(PIXELS.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for image, found in zip(padded, shifted, strict=True):
        cuts = [image[:, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
        assert sum(np.array_equal(cut, found) for cut in cuts) == 1


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_a_view_depends_on_the_image_alone_and_not_on_its_batch(chosen: list[int]) -> None:
    views = Views(flip=True, shifts=2)
    together = views.apply(PIXELS, INDICES, torch.tensor(chosen))
    for place, view in enumerate(chosen):
        alone = views.apply(PIXELS[place : place + 1], INDICES[place : place + 1], torch.tensor([view]))
        assert torch.equal(together[place : place + 1], alone)


def test_every_view_is_drawn_equally_often() -> None:
    drawn = Views(flip=True, shifts=2).draw(60_000, torch.Generator().manual_seed(1))
    assert ((drawn.bincount(minlength=6) - 10_000).abs() < 400).all()
    assert Views().draw(9, torch.Generator()).tolist() == [0] * 9


def test_every_shift_and_every_block_of_images_has_offsets_of_its_own() -> None:
    pixels = torch.rand(1, 3, 16, 16).expand(40, -1, -1, -1)
    near, far = torch.arange(40), torch.arange(4096, 4136)
    one, two, elsewhere = (
        Views(shifts=2).apply(pixels, indices, torch.full((40,), view))
        for indices, view in ((near, 1), (near, 2), (far, 1))
    )
    assert not torch.equal(one, two)
    assert not torch.equal(one, elsewhere)
