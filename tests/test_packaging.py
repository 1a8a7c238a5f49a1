from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


def test_an_installed_wheel_runs_the_main_job_in_an_empty_folder(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    python("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(wheel), cwd=empty)
    command = ["-m", "resnet_spiking.train", "--neuron", "snntorch-lif", "--epochs", "1,1", "--train-samples", "40"]
    environment = {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert "spikes: yes" in python(*command, "--test-samples", "20", cwd=empty, **environment).stdout
    where = python("-c", "import resnet_spiking; print(resnet_spiking.__file__)", cwd=empty, **environment).stdout
    assert where.startswith(str(installed))


def test_what_is_packed(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert {"neurons/py.typed", "resnet_spiking/py.typed"} <= set(sizes)
    assert 0 < sizes["resnet_spiking/network/bundled/resnet18-cifar10.safetensors"] <= 6_000_000
    assert not [name for name in sizes if name.startswith(("tests/", "bench/"))]
    assert any(name.endswith("LICENSE") for name in sizes)
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/README.md") for name in archive.getnames())


def test_neurons_needs_no_torchvision_and_none_of_the_rest(tmp_path: Path) -> None:
    script = (
        "import sys, torch, neurons, neurons.parity\n"
        "spikes, state = neurons.make_neuron('lif')(torch.rand(4, 2, 3))\n"
        "found = {'torchvision', 'resnet_spiking', 'snntorch', 'norse', 'click'} & set(sys.modules)\n"
        "assert spikes.shape == (4, 2, 3) and not found, found\n"
    )
    python("-c", script, cwd=tmp_path)
