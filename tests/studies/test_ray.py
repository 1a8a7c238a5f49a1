from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_spiking.errors import UserError
from resnet_spiking.studies.board import Board
from resnet_spiking.studies.engines.ray_cluster import RayEngine
from resnet_spiking.studies.status import read_entries
from resnet_spiking.studies.study import Execution, run_study
from resnet_spiking.studies.work import Resources

from .conftest import Silent, make_study

# Ray reads this once, when it is imported: nothing here may listen on any other address than loopback.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray: Any = pytest.importorskip("ray", reason="ray has no wheel for this Python")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster on the loopback address: two nodes with one CPU each, and a head that only leads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray._private.services import get_node_ip_address
        from ray.cluster_utils import Cluster

        # Before anything is started: afterwards it would be too late.
        assert get_node_ip_address() == "127.0.0.1"
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        assert cluster.address.startswith("127.0.0.1:")
        yield cluster
    finally:
        cluster.shutdown()


class Remover(Silent):
    """Removes a node that works as soon as something is done and two tasks run."""

    def __init__(self, cluster: Any) -> None:
        super().__init__()
        self.cluster = cluster
        self.removed = False

    def show(self, board: Board) -> None:
        if not self.removed and len(board.running()) == 2 and "done" in board.states.values():
            self.removed = True
            # Ray may have joined this process to either of them, and refuses to remove that one.
            ours = ray.get_runtime_context().get_node_id()
            sockets = {node["RayletSocketName"] for node in ray.nodes() if node["NodeID"] != ours}
            chosen = next(node for node in self.cluster.worker_nodes if node.raylet_socket_name in sockets)
            self.cluster.remove_node(chosen, allow_graceful=False)


def test_a_node_removed_mid_study_costs_no_row(cluster: Any, tmp_path: Path, pictures: Path) -> None:
    study = make_study(pictures, neuron=["lif", "relu"], seed=[0, 1], epochs="2,2")
    resources = Resources(cache_dir=tmp_path / "cache")
    watch = Remover(cluster)
    execution = Execution("ray", 2, cluster.address, resources, retries=3)
    tally = run_study(study, tmp_path / "study", execution, watch)
    assert watch.removed
    assert (tally.done, tally.failed) == (6, 0), watch.lines
    assert any("Ray lost it" in line for line in watch.lines)
    assert len((tmp_path / "study" / "results" / "rows.jsonl").read_text().splitlines()) == 6
    assert {entry.state for entry in read_entries(tmp_path / "study")} == {"done"}


def test_what_a_cluster_lacks_is_one_line(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no node of the Ray cluster has 1 CPUs and 1 GPUs"):
        RayEngine(tmp_path, Resources(gpus=1), address=cluster.address)


def test_an_address_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"does not answer"):
        RayEngine(tmp_path, Resources(), address=f"127.0.0.1:{port}")
    with pytest.raises(UserError, match="HOST:PORT"):
        RayEngine(tmp_path, Resources(), address="cluster")
