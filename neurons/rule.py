"""Another backward pass for whole runs of finished neurons, beyond what a surrogate can say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from neurons.base import Neuron
from neurons.replay import Replay, ReplayError

Rule = Callable[[Neuron, Replay], Tensor]
"""Returns a run's spikes [T, B, *features] with a gradient of its choice: `replay.through_time`, `replay.attach`.

It may return other values than the spikes (their mean, say), which then are what the neuron returns.
"""


@contextmanager
def backward_rule(neurons: nn.Module | Iterable[Neuron], rule: Rule) -> Iterator[int]:
    """Let `rule` differentiate each of `neurons`, or of those that a module holds, for the graphs built in the block.

    The neuron simulates with its own code, and draws what it would draw; its spikes are then given to the rule. A rule
    goes before a `surrogate_override`. The state that a run returns has no gradient. Blocks may be nested; at the end,
    also after an exception, each neuron has its former rule.

    Yields:
        How many neurons were changed; 0 when a module has none.

    Raises:
        TypeError: `neurons` holds something else.
        ReplayError: a neuron cannot be replayed (`Neuron.replay_obstacle`); within the block, a run that its neuron's
            parameters do not explain.
    """
    if isinstance(neurons, nn.Module):
        neurons = [module for module in neurons.modules() if isinstance(module, Neuron) and module.spiking]
    elif not isinstance(neurons, Iterable):
        raise TypeError(f"neurons must be a module or neurons, got {type(neurons).__name__}")
    found = list(neurons)
    for neuron in found:
        if not isinstance(neuron, Neuron):
            raise TypeError(f"neurons must be a module or neurons, got {type(neuron).__name__}")
        if obstacle := neuron.replay_obstacle():
            raise ReplayError(f"no backward rule for {neuron.name}: {obstacle}")
    before = [neuron.rule for neuron in found]
    try:
        for neuron in found:
            neuron.rule = rule
        yield len(found)
    finally:
        for neuron, saved in zip(found, before, strict=True):
            neuron.rule = saved
