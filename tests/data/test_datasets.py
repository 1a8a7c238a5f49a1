from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits as read_digits
from torch import Tensor
from torchvision import datasets as torchvision_datasets

from resnet_spiking.data import watch as watching
from resnet_spiking.data.datasets import load_dataset
from resnet_spiking.data.images import Dataset, ImageSet
from resnet_spiking.errors import Interrupted, UserError


def test_digits_are_all_there_once_and_split_evenly() -> None:
    data = load_dataset("digits")
    assert (len(data.train), len(data.test), data.flip) == (1437, 360, False)
    pictures = np.concatenate([data.train.images.numpy(), data.test.images.numpy()]).reshape(-1, 64)
    original = np.rint(read_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, pictures)) == sorted(map(bytes, original))
    assert data.test.labels.bincount().min() >= 34
    assert load_dataset("digits").sha256 == data.sha256


def write_folder(root: Path, sizes: list[tuple[int, int]], classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index, size in enumerate(sizes):
                Image.new("RGB", size, (label * 100, 50, 7)).save(root / split / name / f"{index}.png")


def test_folder_keeps_a_common_size_and_orders_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, [(6, 4), (6, 4)])
    data = load_dataset("folder", tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (4, 3, 4, 6)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.images[2, :, 0, 0].tolist() == [100, 50, 7]


def test_folder_squares_pictures_of_several_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path, [(20, 10), (9, 30)])
    assert load_dataset("folder", tmp_path, side=12).train.images.shape == (4, 3, 12, 12)


def test_folder_faults_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --data-dir"):
        load_dataset("folder")
    with pytest.raises(UserError, match="is not a folder; expected train/<class>"):
        load_dataset("folder", tmp_path / "absent")
    write_folder(tmp_path, [(4, 4)])
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"half a pict")
    with pytest.raises(UserError, match=r"0\.png is not a readable image"):
        load_dataset("folder", tmp_path)
    (tmp_path / "train" / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match=r"no images for cat \(\.png, \.jpg, "):
        load_dataset("folder", tmp_path)
    (tmp_path / "train" / "cat").rmdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "dog" / "1.png")
    with pytest.raises(UserError, match="not in both: cat"):
        load_dataset("folder", tmp_path)
    write_folder(tmp_path / "alone", [(4, 4)], classes=("dog",))
    with pytest.raises(UserError, match="one class alone, dog; give at least two"):
        load_dataset("folder", tmp_path / "alone")


def test_large_pictures_of_one_size_do_not_stay_large(tmp_path: Path) -> None:
    write_folder(tmp_path, [(50, 25), (50, 25)])
    assert load_dataset("folder", tmp_path, side=12).train.images.shape == (4, 3, 12, 12)
    assert load_dataset("folder", tmp_path, side=13).train.images.shape == (4, 3, 25, 50)


def test_folders_within_a_class_belong_to_it_and_other_files_are_told_of(tmp_path: Path) -> None:
    write_folder(tmp_path, [(4, 4), (4, 4)])
    plain = load_dataset("folder", tmp_path)
    assert plain.notes == ()
    nested = tmp_path / "train" / "cat" / "1"
    nested.mkdir()
    (tmp_path / "train" / "cat" / "1.png").rename(nested / "a.png")
    (nested / "b.gif").touch()
    (tmp_path / "test" / "dog" / "list.txt").touch()
    data = load_dataset("folder", tmp_path)
    assert data.sha256 == plain.sha256
    assert data.train.source == str(tmp_path / "train")
    (note,) = data.notes
    assert "left out (1 x .gif, 1 x .txt)" in note


def test_what_is_left_out_or_changed_is_told(tmp_path: Path) -> None:
    write_folder(tmp_path, [(20, 10), (20, 10)])
    assert load_dataset("folder", tmp_path, side=12).notes == (
        "pictures of 20 x 10 are squeezed to a square; crop them to avoid it",
    )
    (tmp_path / "val" / "cat").mkdir(parents=True)
    (tmp_path / "train" / ".bird").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "train" / "cat" / "9.png")
    left, changed = load_dataset("folder", tmp_path, side=12).notes
    assert "left out (1 x folder beside train and test, 1 x hidden folder)" in left
    assert changed == "pictures of 2 sizes: of each, the square in its middle, at 12 pixels"


def test_reading_is_watched_and_ends_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, [(4, 4)] * 5)
    seen: list[tuple[str, int, int]] = []

    def watch(label: str, done: int, total: int) -> None:
        seen.append((label, done, total))
        if (label, done) == ("train pictures", 3):
            raise Interrupted

    load_dataset("folder", tmp_path, watch=lambda *_: seen.append(("quick", 0, 0)))
    assert seen == []  # what takes no time is told to nobody
    monkeypatch.setattr(watching, "INTERVAL", 0)
    with pytest.raises(Interrupted):
        load_dataset("folder", tmp_path, watch=watch)
    assert seen == [
        *(("picture sizes", done, 20) for done in range(1, 21)),
        *(("train pictures", done, 10) for done in range(1, 4)),
    ]


def test_names_that_only_look_the_same_are_told_as_such(tmp_path: Path) -> None:
    write_folder(tmp_path, [(4, 4)], classes=("a", "caf\u00e9"))
    (tmp_path / "test" / "caf\u00e9").rename(tmp_path / "test" / "cafe\u0301")
    with pytest.raises(UserError, match="names that look the same"):
        load_dataset("folder", tmp_path)


def test_links_and_names_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, [(4, 4)])
    loop = tmp_path / "train" / "cat" / "again"
    loop.symlink_to(tmp_path / "train")
    with pytest.raises(UserError, match="again is a link back to a folder that it lies in"):
        load_dataset("folder", tmp_path)
    loop.unlink()
    there, back = tmp_path / "train" / "cat" / "x", tmp_path / "train" / "dog" / "y"
    there.symlink_to(tmp_path / "train" / "dog")
    back.symlink_to(tmp_path / "train" / "cat")
    with pytest.raises(UserError, match="is a link back to a folder that it lies in"):
        load_dataset("folder", tmp_path)
    there.unlink()
    back.unlink()
    dangling = tmp_path / "train" / "cat" / "gone.png"
    dangling.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"gone\.png is not a readable image"):
        load_dataset("folder", tmp_path)
    dangling.unlink()
    (tmp_path / "train" / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match=r"a name that is not UTF-8, 'caf\\udce9'; rename it"):
        load_dataset("folder", tmp_path)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder: Path) -> np.ndarray:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for stem in ("train", "t10k"):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(20, dtype=np.uint8) % 10)))
    return images


@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_fashion_mnist_from_both_layouts(tmp_path: Path, layout: str) -> None:
    images = write_fashion(tmp_path / "data" / layout)
    data = load_dataset("fashion-mnist", tmp_path / "data")
    assert np.array_equal(data.train.images.numpy()[:, 0], images)
    assert data.test.labels.tolist() == [*range(10), *range(10)]
    assert data.classes[9] == "Ankle boot"


def test_damaged_fashion_mnist_is_detected(tmp_path: Path) -> None:
    write_fashion(tmp_path / "a")
    file = tmp_path / "a" / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_dataset("fashion-mnist", tmp_path / "a")
    file.write_bytes(gzip.compress(gzip.decompress(whole)[:-5]))
    with pytest.raises(UserError, match="truncated"):
        load_dataset("fashion-mnist", tmp_path / "a")
    file.write_bytes(gzip.compress(b"text"))
    with pytest.raises(UserError, match="not an idx file"):
        load_dataset("fashion-mnist", tmp_path / "a")
    with pytest.raises(UserError, match="dataset-fashion-mnist"):
        load_dataset("fashion-mnist", tmp_path / "absent", download=False)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CIFAR-100 archive in the original format, with torchvision's checksums pointed at it."""
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3072), dtype=np.uint8)
    labels = {"fine_labels": [3, 0, 99, 3], "coarse_labels": [0, 0, 1, 0]}
    members = {
        "train": pickle.dumps({"data": pixels, **labels}),
        "test": pickle.dumps({"data": pixels[:2], "fine_labels": [1, 2], "coarse_labels": [0, 0]}),
        "meta": pickle.dumps({"fine_label_names": [f"class{index}" for index in range(100)]}),
    }
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    loader = torchvision_datasets.CIFAR100
    monkeypatch.setattr(loader, "tgz_md5", md5((tmp_path / loader.filename).read_bytes()))
    monkeypatch.setattr(loader, "train_list", [["train", md5(members["train"])]])
    monkeypatch.setattr(loader, "test_list", [["test", md5(members["test"])]])
    monkeypatch.setattr(loader, "meta", {"filename": "meta", "key": "fine_label_names", "md5": md5(members["meta"])})
    return tmp_path


def test_cifar100_in_the_original_format(cifar100: Path) -> None:
    data = load_dataset("cifar100", cifar100)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3072), dtype=np.uint8)
    assert np.array_equal(data.train.images.numpy(), pixels.reshape(4, 3, 32, 32))
    assert data.train.labels.tolist() == [3, 0, 99, 3]
    assert len(data.classes) == 100
    assert data.flip


def test_a_half_downloaded_archive_is_detected(cifar100: Path) -> None:
    archive = cifar100 / "cifar-100-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(UserError, match="half-downloaded"):
        load_dataset("cifar100", cifar100)


def test_absent_cifar_names_the_offline_ways(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"put cifar-10-python.tar.gz into .*--dataset folder"):
        load_dataset("cifar10", tmp_path, download=False)


def test_unknown_dataset_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar100'"):
        load_dataset("cifar-100")


def test_what_lies_beside_the_classes_is_said_and_no_pipe_is_read(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place / "0.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "loose.png")
    os.mkfifo(tmp_path / "test" / "a" / "pipe.png")
    data = load_dataset("folder", tmp_path, side=32)
    assert (len(data.train), len(data.test)) == (2, 2)
    (note,) = data.notes
    assert "(1 x .png beside the classes, 1 x no regular file)" in note


BLACK = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (BLACK.float(), [0, 1], r"uint8 \[N, C, H, W\] with values up to 255 and C = 1 or 3, not torch.float32"),
        (BLACK.permute(0, 2, 3, 1), [0, 1], r"not torch.uint8 \[2, 8, 8, 3\]"),
        (BLACK[0], [0, 1], r"not torch.uint8 \[3, 8, 8\]"),
        (BLACK, [0], r"int64 \[2\], one an image, not torch.int64 \[1\]"),
        (BLACK, [0.0, 1.0], "not torch.float32"),
        (BLACK, [0, 2], "from 0 to 1, places in the 2 classes, not from 0 to 2"),
        (BLACK, [-1, 0], "not from -1 to 0"),
    ],
)
def test_images_in_memory_are_checked(images: Tensor, labels: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ImageSet(images, torch.tensor(labels), ("a", "b"))


def test_splits_with_other_classes_are_refused() -> None:
    train, test = (ImageSet(BLACK, torch.tensor([0, 1]), classes) for classes in (("a", "b"), ("b", "a")))
    with pytest.raises(UserError, match=r"train and test of mine must have the same classes in the same order"):
        Dataset("mine", train, test, flip=True)
