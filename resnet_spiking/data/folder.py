"""Image folders: ``train/<class>/…`` and ``test/<class>/…``."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.data.picture import picture_size, read_picture
from resnet_spiking.data.watch import Watch, seldom, silent
from resnet_spiking.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TREE = "expected train/<class>/<image> and test/<class>/<image>"
LARGE = 2
"""Pictures above this many times the side that networks take are made smaller as they are read."""


def load_folder(root: Path, *, side: int, watch: Watch = silent) -> Dataset:
    """Read an image folder into memory, ``uint8 [N, 3, H, W]``; folders within a class belong to it.

    Images of one common size keep it, unless their shorter side is more than ``LARGE`` times ``side``. Otherwise each
    is resized so that its shorter side has ``side`` pixels and centre-cropped to a square. Hidden files are skipped;
    hidden folders in train and test, what lies beside these, and files of a class that are no images by their suffix
    are left out and told of in ``notes``, as is what becomes of pictures that are not square.
    ``watch(label, done, total)`` is called while pictures are read; what it raises ends that.

    Raises ``UserError`` for a missing or empty folder, an unreadable image, a single class, splits whose classes
    differ, a name that is not UTF-8, or a link back to a folder that it lies in.
    """
    if not root.is_dir():
        raise UserError(f"--data-dir {root} is not a folder; {TREE}")
    others: Counter[str] = Counter()
    train, test = (list_images(root / split, others) for split in ("train", "test"))
    if tuple(train) != tuple(test):
        different = sorted(set(train) ^ set(test))
        listed = ", ".join(map(_shown, different))
        if len({unicodedata.normalize("NFC", name) for name in different}) < len(different):
            listed += " (names that look the same, as one file system writes their accents otherwise than another)"
        raise UserError(f"train and test in {root} must have the same classes; not in both: {listed}")
    if len(train) < 2:
        raise UserError(f"{root} holds one class alone, {next(iter(train))}; give at least two to tell apart; {TREE}")
    for entry in _visible(root):
        if entry.name not in ("train", "test"):
            kind = "folder" if entry.is_dir() else entry.suffix or "no suffix"
            others[f"{kind} beside train and test"] += 1
    paths = [path for split in (train, test) for members in split.values() for path in members]
    watch = seldom(watch)
    with _reading() as pool:
        # Decided for both splits at once, as they must end up with one size, and from the headers
        # alone, so that large pictures are made smaller one by one and never lie in memory together.
        sizes = set()
        for done, size in enumerate(pool.map(picture_size, paths), 1):
            sizes.add(size)
            watch("picture sizes", done, len(paths))
        square = side if len(sizes) > 1 or min(next(iter(sizes))) > LARGE * side else None
        return Dataset(
            "folder",
            _read_split(root / "train", train, square, pool, watch),
            _read_split(root / "test", test, square, pool, watch),
            flip=True,
            notes=(*_notes(root, others), *_treatment(sizes, square)),
        )


@contextmanager
def _reading() -> Iterator[Executor]:
    """Threads that read pictures; what they have not begun is given up when the block ends by an exception."""
    pool = ThreadPoolExecutor(max_workers=2)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def list_images(folder: Path, others: Counter[str] | None = None) -> dict[str, list[Path]]:
    """Return the image files of each class, classes and files in alphabetical order; count the ``others`` by suffix.

    Raises ``UserError`` for a folder that is missing, without images or with a class that has none, a name that is
    not UTF-8, or a link back to a folder that it lies in.
    """
    others = Counter() if others is None else others
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; {TREE}")
    images: dict[str, list[Path]] = {}
    for entry in _visible(folder, others):
        if entry.is_dir():
            files = list(_files(entry, others, frozenset()))
            images[entry.name] = [path for path in files if path.suffix.lower() in SUFFIXES]
            others.update(path.suffix or "no suffix" for path in files if path.suffix.lower() not in SUFFIXES)
        else:
            others[f"{entry.suffix or 'no suffix'} beside the classes"] += 1
    empty = [name for name, members in images.items() if not members]
    if not images or empty:
        of = f" for {_shown(empty[0])}" if empty else ""
        raise UserError(f"{folder} holds no images{of} ({', '.join(SUFFIXES)}); {TREE}")
    return images


def _files(folder: Path, others: Counter[str], above: frozenset[Path]) -> Iterator[Path]:
    """Yield the files below ``folder``; ``above`` are the folders that the way to it leads through, links followed."""
    here = folder.resolve()
    above = above | {here, *here.parents}
    for entry in _visible(folder, others):
        if not entry.is_dir():
            if entry.is_file() or not entry.exists():
                yield entry  # a link that leads nowhere is refused when it is read
            else:
                others["no regular file"] += 1  # reading a pipe would wait for ever
        elif entry.is_symlink() and entry.resolve() in above:
            raise UserError(f"{entry} is a link back to a folder that it lies in; delete it")
        else:
            yield from _files(entry, others, above)


def _visible(folder: Path, others: Counter[str] | None = None) -> list[Path]:
    everything = sorted(folder.iterdir())
    entries = [entry for entry in everything if not entry.name.startswith(".")]
    if others is not None:
        others.update("hidden folder" for entry in everything if entry.name.startswith(".") and entry.is_dir())
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{folder} holds a name that is not UTF-8, {entry.name!a}; rename it") from None
    return entries


def _notes(root: Path, others: Counter[str]) -> tuple[str, ...]:
    if not others:
        return ()
    kinds = ", ".join(f"{count} x {_shown(kind)}" for kind, count in sorted(others.items()))
    return (f"{root}: files that are no images of a class by their name were left out ({kinds}); {TREE}, "
            f"{', '.join(SUFFIXES)}",)  # fmt: skip


def _treatment(sizes: set[tuple[int, int]], square: int | None) -> tuple[str, ...]:
    """Say what becomes of pictures that are not square, or are made smaller."""
    if square and len(sizes) > 1:
        return (f"pictures of {len(sizes)} sizes: of each, the square in its middle, at {square} pixels",)
    width, height = next(iter(sizes))
    if square:
        return (f"pictures of {width} x {height}: of each, the square in its middle, at {square} pixels",)
    return (
        () if width == height else (f"pictures of {width} x {height} are squeezed to a square; crop them to avoid it",)
    )


def _shown(name: str) -> str:
    """Return a name as one line of a terminal can show it."""
    return name if name.isprintable() else ascii(name)


def _read_split(
    folder: Path, images: dict[str, list[Path]], square: int | None, pool: Executor, watch: Watch
) -> ImageSet:
    paths = [path for members in images.values() for path in members]
    labels = [label for label, members in enumerate(images.values()) for _ in members]
    stacked = None
    for index, picture in enumerate(pool.map(partial(read_picture, square=square), paths)):
        if stacked is None:
            height, width, channels = picture.shape
            stacked = np.empty((len(paths), channels, height, width), dtype=np.uint8)
        stacked[index] = picture.transpose(2, 0, 1)
        watch(f"{folder.name} pictures", index + 1, len(paths))
    assert stacked is not None  # an empty folder was refused
    return ImageSet(torch.from_numpy(stacked), torch.tensor(labels), tuple(images), str(folder))
