"""The interface of every neuron, and what all of them check before any work."""

from __future__ import annotations

import json
import math
import operator
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from neurons.bounded import bounded
from neurons.constants import constant, resting
from neurons.names import version_of
from neurons.parameters import MODES, Mode, NeuronParameters, check_word
from neurons.replay import LIFReplay, LIFTerms, Replay, synaptic
from neurons.surrogate import Surrogate
from neurons.unroll import State

if TYPE_CHECKING:
    from neurons.rule import Rule

SMALLEST_THRESHOLD = 1e-6
_STEP_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class NaNError(ValueError):
    """A current, a state or a learned value held NaN: not by mistake of the caller, where a training diverged."""


class Neuron(nn.Module, ABC):
    """A layer of spiking neurons: current in, spikes and state out, nothing kept between calls.

    `forward(current, state=None, *, generator=None) -> (spikes, state)` with current and spikes [T, B, *features],
    time first. The state is an opaque tuple of tensors; None is rest. Feeding a sequence in chunks, each with the
    state of the one before, gives what the whole sequence gives.

    Precision: the state and all arithmetic are float32, or float64 for a float64 current. Spikes have the dtype of
    the current, so bfloat16 and float16 go in and come out.

    Learnable values are `nn.Parameter`s named beta, alpha and threshold, in torch's default dtype when made. They
    are scalars, or have the shape `features` when `make_neuron` was given one. Fixed values are Python floats of the
    configuration, exact in every dtype, and follow the current to its device.

    Attributes:
        name: the registry's name.
        config: the parameters the neuron was made with.
        mode: "shared" (one equation for all) or "native" (the library's own).
        stochastic: whether spikes are drawn; then only from `generator`, or from torch's global one when None.
        spiking: False for the control without spikes.
        override: the surrogate that `surrogate_override` put in place of the neuron's own, or None.
        rule: the whole backward pass that `backward_rule` put in place of the neuron's own, or None.
    """

    stochastic: bool = False
    spiking: bool = True
    state_names: tuple[str, ...] = ("membrane",)
    library: ClassVar[str] = "neurons"
    replays_native: ClassVar[bool] = False
    """Whether `effective_parameters` says all of native mode's equation, so that a run can be replayed."""

    def __init__(
        self,
        name: str,
        config: NeuronParameters,
        *,
        mode: Mode = "shared",
        features: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(config, NeuronParameters):
            raise TypeError(f"parameters must be NeuronParameters, got {type(config).__name__}")
        check_word("mode", mode, MODES)
        self.name = name
        self.config = config
        self.mode: Mode = mode
        self.features = _check_features(features)
        self.override: Surrogate | None = None
        self.rule: Rule | None = None

    @abstractmethod
    def _simulate(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        """All T steps on checked input: current [T, B, *features] and state in the dtype of the arithmetic."""

    @abstractmethod
    def equation(self) -> str:
        """What this neuron computes per step, in one line."""

    def backend(self, device: torch.device | str = "cpu") -> str:
        """What runs the time steps on `device`: the library's own code unless a subclass says otherwise."""
        return self.library

    def threads(self, device: torch.device | str = "cpu") -> str | None:
        """Whose threads run the time steps on `device`, where the neuron starts any itself; None: torch's operations.

        "openmp" (those of torch's runtime) or "python" (a pool), see `neurons.kernels.threads`.
        """
        return None

    def effective_parameters(self) -> dict[str, Any]:
        """The values in force, for results: the configuration, or in native mode the library's defaults under it."""
        return self.config.to_dict()

    def forward(
        self, current: Tensor, state: State | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Run all T steps.

        Args:
            current: [T, B, *features], a floating-point tensor with T >= 1.
            state: what an earlier call returned, or None for rest.
            generator: source of the draws of a stochastic neuron.

        Returns:
            spikes [T, B, *features] in the dtype of `current`, and the state after the last step.

        Raises:
            TypeError: `current`, `state` or `generator` is not what is described, by type or dtype.
            ValueError: wrong rank, T = 0, wrong feature shape, a state of another shape, device or length, a generator
                of another device, NaN (`NaNError`; a graph that torch traced, such as `torch.compile` does, does not
                look for it, nor does a tensor without values).

        `torch.utils.checkpoint` computes a forward again, and gives back the state of torch's global generator alone:
        what a `generator` of its own draws would be other spikes then.
        """
        compute = self._check_current(current)
        self._check_generator(generator, current)
        given: State = ()
        if state is None:
            state = tuple(resting(current.shape[1:], compute, current) for _ in self.state_names)
        else:
            self._check_state(state, current, compute)
            state = given = tuple(part.resolve_neg() for part in state)
        run = self._simulate if self.rule is None else self._run_under_rule
        # Kernels read memory, where a tensor that is negated lazily has the other sign.
        spikes, state = run(current.to(compute).resolve_neg(), state, generator)
        self._refuse_nan(current, given, state)
        return spikes.to(current.dtype), state

    def surrogate(self) -> Surrogate:
        """The surrogate in force: an override's, or that of `effective_parameters`, else the configuration's."""
        if self.override is not None:
            return self.override
        values = self.effective_parameters()
        return Surrogate(values.get("surrogate", self.config.surrogate), values.get("slope", self.config.slope))

    def membrane_threshold(self) -> float:
        """The threshold that the membrane is compared with, the mean if there are several; 1 where there is none."""
        learned = self.learned("threshold")
        if learned is None:
            return float(self.effective_parameters().get("threshold", 1.0))
        return float(learned.detach().clamp(min=SMALLEST_THRESHOLD).mean())

    def replay_obstacle(self) -> str:
        """Why no `backward_rule` can be in force, or an empty string."""
        if self.mode == "native" and not self.replays_native:
            return "its parameters do not tell the equation of its native mode"
        missing = {"beta", "alpha", "threshold", "reset", "detach_reset"} - self.effective_parameters().keys()
        return f"its parameters do not tell {', '.join(sorted(missing))}" if missing else ""

    def describe(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Name, mode, equation, library, version, backend, its threads, values in force: what a result records."""
        return {
            "name": self.name,
            "mode": self.mode,
            "equation": self.equation(),
            "library": self.library,
            "version": version_of(self.library),
            "backend": self.backend(device),
            "threads": self.threads(device),
            "stochastic": self.stochastic,
            "parameters": self.effective_parameters(),
        }

    def extra_repr(self) -> str:
        changed = "".join(f", {key}={value!r}" for key, value in self.config.changed().items())
        features = "" if self.features is None else f", features={self.features}"
        return f"{self.name!r}, mode={self.mode!r}{changed}{features}"

    def get_extra_state(self) -> Tensor:
        """The identity of the neuron, as bytes in a tensor so that safetensors can hold a whole state_dict."""
        text = json.dumps(self._identity(), sort_keys=True)
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the weights of a neuron that computes something else.

        Raises:
            ValueError: name, mode or a parameter differs, the message lists the differences; or no identity at all.
        """
        try:
            # Floats where a whole state_dict was cast, or averaged over equal neurons.
            theirs = json.loads(bytes(torch.as_tensor(state).double().round().to(torch.uint8).tolist()))
        except (RuntimeError, TypeError, ValueError):
            theirs = None
        if not isinstance(theirs, dict):
            raise ValueError(
                f"_extra_state of {self.name} is not the identity that state_dict() wrote; keep it out of arithmetic "
                "on a state_dict: copy it from one of them"
            )
        ours = self._identity()
        differing = [
            f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key)
        ]
        if differing:
            raise ValueError(f"state_dict belongs to another neuron ({'; '.join(differing)})")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # torch sets the extra state after it has copied the parameters.
        if (key := prefix + "_extra_state") in state_dict:
            self.set_extra_state(state_dict[key])
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _identity(self) -> dict[str, Any]:
        return {"name": self.name, "mode": self.mode, **self.config.to_dict()}

    def _run_under_rule(self, current: Tensor, state: State, generator: torch.Generator | None) -> tuple[Tensor, State]:
        """The neuron's own spikes with the backward pass of `self.rule`; the state after carries no gradient."""
        assert self.rule is not None
        draws = _copy(generator, current.device) if self.stochastic else None
        with torch.no_grad():
            spikes, after = self._simulate(current, state, generator)
        return self.rule(self, self._replay(current, state, spikes, draws)), after

    def _replay(self, current: Tensor, state: State, spikes: Tensor, generator: torch.Generator | None) -> Replay:
        """The run that gave `spikes`, by the equation of `NeuronParameters` with the values in force.

        `generator` draws what the run drew; None for a neuron that draws nothing.
        """
        values = self.effective_parameters()
        with torch.no_grad():
            beta = self._value("beta", values["beta"], current, 0, 1)
            alpha = None if values["alpha"] is None else self._value("alpha", values["alpha"], current, 0, 1)
            threshold = self._value("threshold", values["threshold"], current, SMALLEST_THRESHOLD, float("inf"))
        terms = LIFTerms(
            beta=beta,
            threshold=threshold,
            reset=values["reset"],
            detach=values["detach_reset"] or values.get("reset_delay", False),
            delayed=values.get("reset_delay", False),
        )
        drive = current if alpha is None else synaptic(current, self._synapse(state, alpha, beta), alpha)
        if "input_gain" in values:
            drive = (1 - beta) * drive  # of the beta in force, which may have been learned
        return LIFReplay(drive, spikes, state[0], terms)

    def _synapse(self, state: State, alpha: Tensor, beta: Tensor) -> Tensor:
        """i[-1] of `NeuronParameters`, from the state."""
        return state[1]

    def _native_surrogate(self, name: str, slope: float) -> dict[str, Any]:
        """Surrogate and slope in force in native mode, where `name` and `slope` are the library's own."""
        changed = self.config.changed()
        chosen = changed.get("surrogate", name)
        return {"surrogate": chosen, "slope": changed.get("slope", slope if chosen == name else self.config.slope)}

    def _refuse_recurrent(self) -> None:
        if self.config.recurrent:
            raise self._refuse("recurrent", True, "only ParaLIF has a recurrent connection")

    def _refuse_native_slope(self) -> None:
        """For a library whose own surrogate has no slope of ours."""
        if self.mode == "native" and {"surrogate", "slope"} & self.config.changed().keys() == {"slope"}:
            reason = "the library's own surrogate has no such slope; name one of ours as well (surrogate)"
            raise self._refuse("slope", self.config.slope, reason)

    def _learn_configured(self) -> None:
        """Register what the configuration asks to learn, from the values in force."""
        values = self.effective_parameters()
        for field in ("beta", "alpha", "threshold"):
            if getattr(self.config, f"learn_{field}"):
                self._learn(field, values[field])

    def _learn(self, field: str, value: float) -> None:
        """Register `field` as a parameter that starts exactly at `value`."""
        if field == "threshold" and value < SMALLEST_THRESHOLD:
            raise self._refuse("threshold", value, f"a learned one is kept at {SMALLEST_THRESHOLD:g} or above")
        shape = self.features or ()
        self.register_parameter(field, nn.Parameter(torch.full(shape, value)))

    def _value(self, field: str, fixed: float, like: Tensor, low: float, high: float) -> Tensor:
        """The decay or threshold `field` as a tensor of the dtype and device of `like`, in [low, high] if learned."""
        learned = self.learned(field)
        if learned is None:
            return constant(fixed, like.dtype, like)
        if learned.device != like.device:
            raise ValueError(
                f"current is on {like.device} and {field} of {self.name} on {learned.device}; move one to the other"
            )
        return bounded(learned.to(like.dtype), low, high)

    def learned(self, field: str) -> Tensor | None:
        """The learned decay or threshold `field`: a parameter, or what `torch.nn.utils.parametrize` makes of one."""
        learns = field in self._parameters or getattr(self.config, f"learn_{field}")
        return getattr(self, field) if learns else None

    def _witnesses(self, state: State) -> State:
        """The tensors of the state that hold NaN once the current held one."""
        return state[:1]

    def _refuse(self, argument: str, value: object, reason: str) -> ValueError:
        return ValueError(f"{argument}={value!r} cannot be expressed by {self.name} in {self.mode} mode: {reason}")

    def _check_current(self, current: Tensor) -> torch.dtype:
        if not isinstance(current, Tensor):
            raise TypeError(f"current must be a Tensor [T, B, *features], got {type(current).__name__}")
        if current.dtype not in _STEP_DTYPES:
            raise TypeError(f"current must be float32, float64, bfloat16 or float16, got {current.dtype}")
        shape = tuple(current.shape)
        if current.dim() < 2:
            raise ValueError(f"current must be [T, B, *features] with at least 2 dimensions, got shape {shape}")
        if current.shape[0] == 0:
            raise ValueError(f"current must have at least one time step, got T=0 (shape {shape})")
        if self.features is not None:
            fits = len(shape) - 2 == len(self.features) and all(
                ours in (1, theirs) for ours, theirs in zip(self.features, shape[2:], strict=True)
            )
            if not fits:
                raise ValueError(f"current must be [T, B, *features] with features {self.features}, got shape {shape}")
        return torch.float64 if current.dtype == torch.float64 else torch.float32

    def _check_generator(self, generator: torch.Generator | None, current: Tensor) -> None:
        if generator is None:
            return
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be None or a torch.Generator, got {type(generator).__name__}")
        if self.stochastic and generator.device.type != current.device.type:
            raise ValueError(f"generator must be on {current.device} like current, got {generator.device}")

    def _check_state(self, state: State, current: Tensor, compute: torch.dtype) -> None:
        wanted = f"None or the tuple ({', '.join(self.state_names)}) that {self.name} returned"
        if not isinstance(state, tuple):
            raise TypeError(f"state must be {wanted}, got {type(state).__name__}")
        for part in state:
            if not isinstance(part, Tensor):
                raise TypeError(f"state must be {wanted}, got a tuple that holds {type(part).__name__}")
        if len(state) != len(self.state_names):
            raise ValueError(f"state must be {wanted}, got a tuple of {len(state)}")
        for part_name, part in zip(self.state_names, state, strict=True):
            if part.shape != current.shape[1:]:
                raise ValueError(
                    f"state ({part_name}) must have the shape {tuple(current.shape[1:])} of one time step of current, "
                    f"got {tuple(part.shape)}"
                )
            if part.dtype != compute:
                raise TypeError(
                    f"state ({part_name}) must be {compute} for a current of {current.dtype}, got {part.dtype}"
                )
            if part.device != current.device:
                raise ValueError(f"state ({part_name}) must be on {current.device} like current, got {part.device}")

    def _refuse_nan(self, current: Tensor, given: State, state: State) -> None:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return  # a branch on data would break the graph
        if current.is_meta or hasattr(current, "fake_mode"):
            return  # a tensor without values, of which a FakeTensor does not say is_meta
        # A NaN never leaves a membrane, so that the small final state tells about the whole current.
        witnesses = [part.detach() for part in self._witnesses(state) or (current,)]
        given = tuple(part.detach() for part in given)
        learned = [parameter.detach() for parameter in self.parameters()]
        # A sum is a tenth of the work, and finite where no entry is NaN; infinite entries may make it NaN as well.
        if math.isfinite(sum(value.sum() for value in (*witnesses, *given, *learned))):
            return
        if any(bool(torch.isnan(value).any()) for value in learned):
            raise NaNError(f"a learned value of {self.name} must not hold NaN, got NaN")
        if any(bool(torch.isnan(part).any()) for part in given):
            raise NaNError("state must not hold NaN, got NaN")
        if any(bool(torch.isnan(witness).any()) for witness in witnesses):
            found = "NaN" if bool(torch.isnan(current).any()) else "values so large that they gave NaN"
            raise NaNError(f"current must not hold NaN, got {found}")


def _copy(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """A generator that draws what `generator`, or torch's global one of `device`, is going to draw."""
    copy = torch.Generator(device)
    if generator is not None:
        copy.set_state(generator.get_state())
    else:
        copy.set_state(torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device))
    return copy


def _check_features(features: int | tuple[int, ...] | None) -> tuple[int, ...] | None:
    if features is None:
        return None
    wanted = tuple(features) if isinstance(features, (tuple, list)) else (features,)
    try:
        shape = tuple(operator.index(n) for n in wanted if not isinstance(n, bool))
    except TypeError:
        shape = ()
    if not shape or len(shape) != len(wanted):
        raise TypeError(f"features must be None, a positive int or a tuple of them, got {features!r}")
    if min(shape) < 1:
        raise ValueError(f"features must be positive, got {features!r}")
    return shape
