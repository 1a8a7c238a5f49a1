"""Where a run happens and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resnet_spiking.errors import Interrupted


@dataclass(frozen=True)
class Environment:
    """Where a run or an evaluation happens and whom it tells. Nothing here changes a result, ``device`` aside.

    ``data_dir`` None: where downloads go, as the commands have it; ``cache_dir`` None: frozen features are not kept but
    computed in every epoch (the commands keep them in ``terminal.cache_root()``).
    ``report(line)`` takes messages, ``progress(label, done, total)`` long work, ``on_epoch(figures)``
    each finished epoch, ``should_stop()`` asks whether to save and stop. ``remember(key, make)``
    returns what ``make()`` returns; one that keeps it lets the next run of the same process
    have the data, the frozen network and the Default without reading them again.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    data_dir: Path | None = None
    cache_dir: Path | None = None
    report: Callable[[str], None] = lambda line: None
    progress: Callable[[str, int, int], None] = lambda label, done, total: None
    on_epoch: Callable[[dict[str, Any]], None] = lambda figures: None
    should_stop: Callable[[], bool] = lambda: False
    remember: Callable[[tuple[object, ...], Callable[[], Any]], Any] = lambda key, make: make()

    def watching(self, *, begun: bool = True) -> Callable[[str, int, int], None]:
        """Return ``progress`` for work that is done again as a whole: it raises ``Interrupted`` when asked to stop."""

        def watch(label: str, done: int, total: int) -> None:
            self.progress(label, done, total)
            if self.should_stop():
                raise Interrupted(begun=begun)

        return watch
