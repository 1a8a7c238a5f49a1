from __future__ import annotations

import shutil
from pathlib import Path

from resnet_spiking.config import RunConfig
from resnet_spiking.studies.grid import Run
from resnet_spiking.studies.identity import Identities


def test_a_link_to_a_folder_above_brings_nothing_of_it(tmp_path: Path, pictures: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    (tmp_path / "beside.png").write_bytes(b"1")
    (copy / "test" / "out").symlink_to(tmp_path)
    one, other = (Identities().data(Run("x", RunConfig(dataset="folder"), folder)) for folder in (copy, pictures))
    assert one == other
