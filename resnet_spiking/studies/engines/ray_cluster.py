"""A Ray cluster whose nodes all see the study folder."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from resnet_spiking.errors import UserError
from resnet_spiking.studies.engines import Engine
from resnet_spiking.studies.perform import perform
from resnet_spiking.studies.work import Outcome, Resources, Work

if TYPE_CHECKING:
    from pathlib import Path

REACH = 5.0  # seconds to wait for an address to answer


@final
class RayEngine(Engine):
    """Runs each task as one Ray task that requests its CPUs and GPUs; results come through the shared folder.

    ``address`` is ``host:port``, ``auto`` or ``ray://host:port``; without one, Ray starts on this machine, on
    the loopback address. Ray itself retries nothing: a task whose worker or node is gone is ``lost``,
    and the study decides.

    Raises ``UserError`` when ray is not installed, the address does not answer, a node does not see
    ``folder``, or no node has the resources that a task requests.
    """

    def __init__(self, folder: Path, resources: Resources, *, address: str | None = None) -> None:
        self.resources = resources
        self.ray = _connect(address)
        self._running: dict[Any, Work] = {}
        options = {"num_cpus": resources.threads, "num_gpus": resources.gpus, "max_retries": 0}
        self._remote = self.ray.remote(**options)(perform)
        try:
            if not self.room():
                raise UserError(
                    f"no node of the Ray cluster has {resources.threads} CPUs and {resources.gpus:g} GPUs for a task; "
                    "ask for less with --task-cpus and --task-gpus, or add nodes"
                )
            self._check_storage(folder)
        except BaseException:
            self.close()
            raise

    def room(self) -> int:
        fits = 0
        for node in self.ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                shares = [has.get("CPU", 0) // self.resources.threads]
                if self.resources.gpus:
                    shares.append(has.get("GPU", 0) // self.resources.gpus)
                fits += int(min(shares))
        return max(0, fits - len(self._running))

    def place(self, ready: Sequence[Work]) -> tuple[Work, str] | None:
        if not ready or not self.room():
            return None
        reference = self._remote.remote(ready[0])
        self._running[reference] = ready[0]
        return ready[0], f"ray {reference.task_id().hex()[:8]}"

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._running:
            return []
        ended, _ = self.ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._collect(reference) for reference in ended]

    def close(self) -> None:
        for reference in self._running:
            self.ray.cancel(reference, force=True)
        self._running.clear()
        self.ray.shutdown()

    def _collect(self, reference: Any) -> Outcome:
        work = self._running.pop(reference)
        try:
            outcome: Outcome = self.ray.get(reference)
            return outcome
        except self.ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            return Outcome(work.key, "lost", error=f"Ray lost it ({type(error).__name__}: {reason})", again=True)

    def _check_storage(self, folder: Path) -> None:
        """Let every node read a file that was written here just now."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = folder / ".shared"
        secret = secrets.token_hex(8)
        probe.write_text(secret)
        asked = {
            node["NodeManagerAddress"]: self.ray.remote(num_cpus=0, max_retries=0)(_read)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(str(probe))
            for node in self.ray.nodes()
            if node["Alive"]
        }
        try:
            for name, reference in asked.items():
                try:
                    seen = self.ray.get(reference, timeout=120)
                except self.ray.exceptions.RayError as error:
                    raise UserError(
                        f"node {name} of the Ray cluster does not answer ({type(error).__name__})"
                    ) from None
                if seen != secret:
                    raise UserError(
                        f"Ray's node {name} does not see {folder}; give an --output-dir on storage that all nodes share"
                    )
        finally:
            probe.unlink(missing_ok=True)


def _connect(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Without a cluster, Ray stays on the loopback address. It reads this once, when it is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:
        _reach(address)
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs ray; install the extra: pip install 'resnet_spiking[ray]'") from None
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except Exception as error:  # a node that does not come up raises nothing more special
        reason = " ".join(str(error).split())[:200]
        what = (
            f"--address {address}: this Ray cluster could not be joined" if address else "Ray could not be started here"
        )
        raise UserError(f"{what} ({reason})") from None
    return ray


def _reach(address: str) -> None:
    """Fail within seconds, and with one line, where Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not separator or not port.isdigit():
        raise UserError(f"--address {address!r} is malformed; give HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--address {address} does not answer ({reason}); start a cluster there with ray start --head"
        ) from None


def _read(path: str) -> str:
    try:
        with open(path) as handle:  # noqa: PTH123 - runs on a node that may not have the folder
            return handle.read()
    except OSError:
        return ""
