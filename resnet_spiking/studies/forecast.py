"""How long tasks will take on a number of workers: greedy list scheduling over their dependencies."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from resnet_spiking.studies.plan import Task


def makespan(tasks: Sequence[Task], seconds: Mapping[str, float], workers: int, *, done: Collection[str] = ()) -> float:
    """Return when the last task ends if each takes ``seconds[key]`` and starts as soon as it can, in plan order.

    Tasks in ``done`` take no time; a task whose needs are in neither list is taken as ready.
    """
    waiting = {task.key: task for task in tasks if task.key not in done}
    missing = {key: sum(need in waiting for need in task.needs) for key, task in waiting.items()}
    followers: dict[str, list[str]] = {}
    for key, task in waiting.items():
        for need in task.needs:
            if need in waiting:
                followers.setdefault(need, []).append(key)
    order = {key: position for position, key in enumerate(waiting)}
    ready = [(order[key], key) for key, count in missing.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < max(1, workers):
            position, key = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds.get(key, 0.0), position, key))
        now, _, key = heapq.heappop(running)
        for follower in followers.get(key, ()):
            missing[follower] -= 1
            if not missing[follower]:
                heapq.heappush(ready, (order[follower], follower))
    return now
