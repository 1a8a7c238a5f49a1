"""Where the tasks of a study run: local worker processes, or a Ray cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from resnet_spiking.studies.work import Outcome, Work

ENGINES = ("local", "ray")


class Engine(ABC):
    """Starts work where there is room and says how it ended. Every attempt that was placed has one outcome."""

    @abstractmethod
    def room(self) -> int:
        """Return how many tasks could start now."""

    @abstractmethod
    def place(self, ready: Sequence[Work]) -> tuple[Work, str] | None:
        """Start one of ``ready``, in order of preference; return it with its worker's name, None without room."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Outcome]:
        """Return the outcomes since the last call, waiting up to ``seconds`` for one."""

    @abstractmethod
    def close(self) -> None:
        """End all workers at once."""
