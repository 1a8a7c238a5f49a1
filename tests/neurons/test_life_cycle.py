"""What happens to a neuron over a life: training steps, batch sizes, processes, compilers, many of them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import neurons
from neurons import NEURONS, Neuron, NeuronParameters, list_neurons, make_neuron, names, register, unregister

SPIKING = [name for name in NEURONS if name != "relu"]
ADAPTERS = {"snntorch-lif", "snntorch-synaptic", "norse-lifbox", "norse-lif"}
COMPILED = [
    name for name in NEURONS if name not in ADAPTERS and name not in ("paralif-gs", "paralif-sb", "paralif-trb")
]


def _draws(neuron: Neuron) -> torch.Generator | None:
    return torch.Generator().manual_seed(7) if neuron.stochastic else None


class _Head(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(3, 8), nn.Linear(8, 2)
        self.neuron = make_neuron(name, NeuronParameters(learn_beta=name != "relu"))

    def forward(self, features: Tensor) -> Tensor:
        spikes, _ = self.neuron(self.before(features), generator=_draws(self.neuron))
        return self.after(spikes).mean(0)


@pytest.mark.parametrize("name", NEURONS)
def test_training_steps_of_changing_batch_size(name: str) -> None:
    """No second backward through a first graph, and evaluation in between changes nothing."""
    head = _Head(name)
    twin = _Head(name)
    twin.load_state_dict(head.state_dict())
    for model, interrupted in ((head, True), (twin, False)):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for step, batch in enumerate((4, 2, 7)):
            features = torch.rand(5, batch, 3, generator=torch.Generator().manual_seed(step)) * 3
            if interrupted:
                model.eval()
                with torch.no_grad():
                    model(features[:, :1])
                model.train()
            optimiser.zero_grad()
            model(features).square().sum().backward()
            optimiser.step()
    for one, other in zip(head.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NEURONS)
def test_half_precision_and_empty_batch(name: str) -> None:
    neuron = make_neuron(name)
    spikes, state = neuron(torch.rand(4, 2, 3).half(), generator=_draws(neuron))
    assert spikes.dtype == torch.float16
    assert all(part.dtype == torch.float32 for part in state)
    current = torch.rand(4, 0, 3, requires_grad=True)
    spikes, state = neuron(current, generator=_draws(neuron))
    assert spikes.shape == (4, 0, 3)
    spikes.sum().backward()
    assert current.grad is not None
    assert current.grad.shape == (4, 0, 3)


@pytest.mark.parametrize("name", NEURONS)
def test_nothing_is_left_of_dropped_neurons(name: str) -> None:
    """A thousand are made, run and dropped; none survives, in our hands or in a library's list."""
    current = torch.rand(2, 1, 3, requires_grad=True)
    dropped = []
    for _ in range(1000):
        neuron = make_neuron(name)
        neuron(current)
        dropped.append(weakref.ref(neuron))
    del neuron
    gc.collect()
    assert not any(reference() is not None for reference in dropped)
    if name.startswith("snntorch"):
        from snntorch import SpikingNeuron

        assert not SpikingNeuron.instances


@pytest.mark.parametrize("name", COMPILED)
def test_torch_compile_fullgraph(name: str) -> None:
    torch._dynamo.reset()
    neuron = make_neuron(name)
    current = torch.rand(4, 2, 3, requires_grad=True)
    spikes, _ = torch.compile(neuron, fullgraph=True, backend="aot_eager")(current)
    assert torch.equal(spikes, neuron(current)[0])
    (compiled,) = torch.autograd.grad(spikes.sum(), current)
    (eager,) = torch.autograd.grad(neuron(current)[0].sum(), current)
    torch.testing.assert_close(compiled, eager)


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace:UserWarning")  # so torch 2.8 says it
@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_torch_compile_fullgraph_stops_at_the_libraries(name: str) -> None:
    """Their objects are made inside the call, which a tracer cannot follow: graph breaks, yet the same numbers."""
    torch._dynamo.reset()
    neuron, current = make_neuron(name), torch.rand(4, 2, 3)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(neuron, fullgraph=True, backend="eager")(current)
    torch._dynamo.reset()
    broken = torch.compile(neuron, backend="eager")
    if name.startswith("norse") and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):
        # Its guards look our threshold up among the names of norse's module, where norse's own stands.
        with pytest.raises(torch._dynamo.exc.InternalTorchDynamoError, match="'NoneType' object is not subscriptable"):
            broken(current)
    else:
        assert torch.equal(broken(current)[0], neuron(current)[0])


@pytest.mark.parametrize("name", [*COMPILED, *sorted(ADAPTERS)])
def test_torch_export(name: str) -> None:
    neuron, current = make_neuron(name), torch.rand(4, 2, 3) * 2
    exported = torch.export.export(neuron, (torch.zeros(4, 2, 3),)).module()
    assert torch.equal(exported(current)[0], neuron(current)[0])


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """DistributedDataParallel over gloo: both processes end with the same learned decay, which moved."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, sys, torch, torch.distributed as dist\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "import neurons\n"
        "rank, store = int(sys.argv[1]), sys.argv[2]\n"
        "torch.set_num_threads(1)\n"
        "dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)\n"
        "torch.manual_seed(rank)\n"
        "neuron = neurons.make_neuron('lif', neurons.NeuronParameters(learn_beta=True))\n"
        "model = DistributedDataParallel(neuron)\n"
        "for _ in range(2):\n"
        "    model(torch.rand(5, 3, 4))[0].sum().backward()\n"
        "    with torch.no_grad():\n"
        "        neuron.beta -= 0.001 * neuron.beta.grad\n"
        "print(repr(float(neuron.beta)), flush=True)\n"
        "dist.barrier()\n"
        "dist.destroy_process_group()\n"
        "os._exit(0)\n"  # torch may abort where its reducer's threads outlive the interpreter: "terminate called"
    )
    root = str(Path(neurons.__file__).parents[1])
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        for rank in (0, 1)
    ]
    found = []
    for worker in workers:
        output, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
        found.append(float(output.splitlines()[-1]))  # torch 2.8's gloo says on stdout that it is connected
    assert found[0] == found[1]
    assert abs(found[0] - 0.9) > 1e-6


class _Doubling(Neuron):
    """What a third party writes: twice the current, as a neuron."""

    state_names = ()

    def equation(self) -> str:
        return "y[t] = 2 x[t]"

    def _simulate(
        self, current: Tensor, state: tuple[Tensor, ...], generator: torch.Generator | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return 2 * current, state


def test_a_registered_neuron_is_made_by_name() -> None:
    register("doubling", _Doubling, "a test's")
    try:
        assert "doubling" in list_neurons()
        assert make_neuron("doubling")(torch.ones(2, 1, 1))[0].tolist() == [[[2.0]], [[2.0]]]
        with pytest.raises(ValueError, match="taken"):
            register("doubling", _Doubling)
    finally:
        unregister("doubling")
    assert "doubling" not in list_neurons()
    with pytest.raises(ValueError, match="taken"):
        register("lif", _Doubling)


def test_an_installed_package_offers_its_neuron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "othersneuron.py").write_text("from neurons.relu import ReLU as Theirs\n")
    information = tmp_path / "others-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{names.ENTRY_POINT_GROUP}]\ntheirs = othersneuron:Theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    names._installed.cache_clear()
    try:
        assert any(point.name == "theirs" for point in metadata.entry_points(group=names.ENTRY_POINT_GROUP))
        assert "theirs" in list_neurons()
        assert make_neuron("theirs")(-torch.ones(1, 1, 1))[0].item() == 0
        assert names.entries()["theirs"].summary == "from others"
    finally:
        names._installed.cache_clear()


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "paralif-t"])
def test_a_parametrized_decay_is_the_one_in_force(name: str) -> None:
    """beta = sigmoid(w), as users keep it in (0, 1)."""
    current = torch.rand(20, 4, 5)
    fixed = make_neuron(name, NeuronParameters(beta=0.3))
    neuron = make_neuron(name, NeuronParameters(beta=0.9, learn_beta=True))
    with torch.no_grad():
        neuron.beta.copy_(torch.tensor(0.3).logit())
    nn.utils.parametrize.register_parametrization(neuron, "beta", nn.Sigmoid())
    spikes, _ = neuron(current)
    assert torch.equal(spikes, fixed(current)[0])
    spikes.sum().backward()
    assert neuron.parametrizations.beta.original.grad.abs() > 0


def test_a_description_says_whether_spikes_are_drawn() -> None:
    assert [
        make_neuron(name).describe()["stochastic"] for name in ("lif", "paralif-t", "paralif-sb", "paralif-gs")
    ] == [False, False, True, True]


@pytest.mark.parametrize("name", ["lif", "snntorch-lif", "norse-lif", "paralif-td"])
def test_tensors_without_values_have_shapes(name: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert make_neuron(name)(torch.rand(3, 2, 4, device="meta"))[0].shape == (3, 2, 4)
    with FakeTensorMode():
        assert make_neuron(name)(torch.rand(3, 2, 4))[0].shape == (3, 2, 4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of checks of shapes
@pytest.mark.parametrize("alpha", [None, 0.5])
def test_torch_jit_trace(alpha: float | None) -> None:
    """Plain operations: what a kernel does cannot be traced."""
    neuron = make_neuron("lif", NeuronParameters(alpha=alpha))
    traced = torch.jit.trace(lambda current: neuron(current)[0], torch.zeros(6, 2, 4))
    current = torch.rand(6, 2, 4) * 2
    assert torch.equal(traced(current), neuron(current)[0])
    assert 0 < traced(current).mean() < 1


def test_a_state_is_as_large_as_a_step() -> None:
    for name in ("lif", "paralif-d", "paralif-trd"):
        for part in make_neuron(name)(torch.rand(50, 2, 3))[1]:
            assert part.untyped_storage().nbytes() == 2 * 3 * 4


def test_a_kernel_library_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurons.kernels import dispatch

    def refuse(name: str) -> None:
        raise ImportError("it needs NumPy 2.3 or less")

    monkeypatch.setattr(dispatch.importlib, "import_module", refuse)
    with pytest.warns(RuntimeWarning, match="numba is installed and cannot be imported .it needs NumPy 2.3 or less"):
        assert not dispatch._has.__wrapped__("numba")


def test_modules_and_version_are_there_without_an_import_of_their_own() -> None:
    code = "import neurons; print(neurons.__version__, neurons.nir.STEP, neurons.reference.lif.__name__)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert shown == [metadata.version("resnet-spiking"), "0.0001", "lif"]
