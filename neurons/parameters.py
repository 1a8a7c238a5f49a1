"""The parameters of a neuron in the field's terms: decays per step, threshold, reset, surrogate. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from neurons.names import unknown

Mode = Literal["shared", "native"]
Reset = Literal["zero", "subtract", "none"]
SurrogateName = Literal["atan", "fast_sigmoid", "sigmoid", "triangle", "rectangle", "ste"]

MODES: tuple[str, ...] = get_args(Mode)
RESETS: tuple[str, ...] = get_args(Reset)
SURROGATES: tuple[str, ...] = get_args(SurrogateName)

LARGEST = 3.4028234663852886e38
"""The largest finite number of fp32."""

STEEPEST = 1e38
"""The largest slope of a surrogate, of which pi/2 is a number of fp32 too."""

SYNAPSE_DECAY = 0.8
"""`alpha` of a neuron that always has a synapse, when none is given: norse's default, 1 - 0.001 s * 200/s."""


@dataclass(frozen=True)
class NeuronParameters:
    """What a neuron computes, per time step; a checkpoint stores it and `make_neuron` reads it.

    The shared equation, for current x[t], synapse i, membrane before the reset u, spike s, membrane after it v:

        i[t] = alpha * i[t-1] + x[t]             (i[t] = x[t] without a synapse)
        u[t] = beta * v[t-1] + i[t]
        s[t] = 1 if u[t] > threshold else 0      (strictly above)
        v[t] = u[t] * (1 - s[t])  "zero"  |  u[t] - threshold * s[t]  "subtract"  |  u[t]  "none"

    Attributes:
        beta: membrane decay in [0, 1].
        alpha: synapse decay in [0, 1]. None: no synapse; `snntorch-synaptic` and `norse-lif`, which always have one,
            then use `SYNAPSE_DECAY`.
        threshold: above it a neuron spikes; positive.
        delta_threshold: the rise per step above which the delta modes of ParaLIF (d, sd, td, trd) spike; positive.
            The default is the reference implementation's. No other neuron reads it.
        reset: "zero", "subtract" or "none". ParaLIF and relu have no reset and read no default.
        detach_reset: whether s[t] in the reset is a constant to the gradient.
        surrogate: the derivative that replaces the step's, see `neurons.surrogate`.
        slope: the surrogate's slope; positive.
        learn_beta, learn_alpha, learn_threshold: make the value an `nn.Parameter` that starts exactly there.
        recurrent: ParaLIF only: feed its shifted spikes back through a learned matrix.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of its range, or an unknown word.
    """

    beta: float = 0.9
    alpha: float | None = None
    threshold: float = 1.0
    delta_threshold: float = 0.01
    reset: str = "zero"
    detach_reset: bool = True
    surrogate: str = "atan"
    slope: float = 2.0
    learn_beta: bool = False
    learn_alpha: bool = False
    learn_threshold: bool = False
    recurrent: bool = False

    def __post_init__(self) -> None:
        self._number("beta", 0.0, 1.0)
        if self.alpha is not None:
            self._number("alpha", 0.0, 1.0)
        self._number("threshold", 0.0, LARGEST, open_interval=True)
        self._number("delta_threshold", 0.0, LARGEST, open_interval=True)
        self._number("slope", 0.0, STEEPEST, open_interval=True)
        for field in ("detach_reset", "learn_beta", "learn_alpha", "learn_threshold", "recurrent"):
            value = getattr(self, field)
            if not isinstance(value, bool):
                raise TypeError(f"{field} must be True or False, got {value!r}")
        check_word("reset", self.reset, RESETS)
        check_word("surrogate", self.surrogate, SURROGATES)

    def _number(self, field: str, low: float, high: float, *, open_interval: bool = False) -> None:
        value = getattr(self, field)
        accepted = f"a number in ({low:g}, {high:g})" if open_interval else f"a number in [{low:g}, {high:g}]"
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{field} must be {accepted}, got {value!r}")
        try:
            number = float(value)
        except OverflowError:
            number = float("nan")
        inside = low < number < high if open_interval else low <= number <= high
        if not inside:  # NaN compares false and lands here as well
            raise ValueError(f"{field} must be {accepted}, got {value!r}")
        object.__setattr__(self, field, number)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, ready for JSON."""
        # Not dataclasses.asdict: its deepcopy is what torch.compile of torch 2.6 cannot follow, and no value is nested.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NeuronParameters:
        """The inverse of `to_dict`.

        Raises:
            ValueError: an unknown field.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(unknown("parameter", str(key), known))
        return cls(**values)

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults: in `native` mode these, and no others, reach the library."""
        return {key: value for key, value in self.to_dict().items() if value != getattr(DEFAULTS, key)}


def check_word(argument: str, value: object, accepted: tuple[str, ...]) -> str:
    """Return `value` if it is one of the accepted words.

    Raises:
        TypeError: not a string.
        ValueError: another string; the message has the nearest word and the list.
    """
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be one of {', '.join(accepted)}, got {value!r}")
    if value not in accepted:
        raise ValueError(unknown(argument, value, list(accepted)))
    return value


DEFAULTS = NeuronParameters()
