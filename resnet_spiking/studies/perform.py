"""Do one task: the function that every engine runs in its workers."""

from __future__ import annotations

import errno
import faulthandler
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from resnet_spiking.errors import Interrupted, UserError
from resnet_spiking.studies.memory import Memory
from resnet_spiking.studies.pulse import Beat
from resnet_spiking.studies.stopping import stop_asked
from resnet_spiking.studies.work import Outcome, Work

if TYPE_CHECKING:
    from resnet_spiking.config import RunConfig

# A limit on file size is how a quota or a full volume shows up on some systems.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# The last is torch.save's: it names its own source, not the system's error.
FULL_DISK = ("No space left on device", "File too large", "Disk quota exceeded", "inline_container.cc")

_memory = Memory()


def perform(work: Work, memory: Memory = _memory) -> Outcome:
    """Do ``work`` in this process and say how it ended; an error of the task is an outcome, never raised.

    Lines and tracebacks go to the task's log. A run that an earlier attempt left unfinished is
    continued, a finished one is found. ``memory`` serves the next task of this process.
    """
    began = time.perf_counter()
    log = work.folder / work.log
    try:
        log.parent.mkdir(exist_ok=True)
        with log.open("a", buffering=1) as stream:
            return _attempt(work, memory, stream, began)
    except OSError as error:
        return _failure(work, error, began)


def _attempt(work: Work, memory: Memory, stream: TextIO, began: float) -> Outcome:
    beat = Beat(work.folder, work.label)
    faulthandler.enable(stream)
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            path = _do(work, memory, beat, lambda line: print(line, file=stream))
            sha256 = None if path is None else _sha256(path)
        result = None if path is None else str(path.relative_to(work.folder))
        return Outcome(work.key, "done", result, sha256, time.perf_counter() - began)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc(file=stream)
        outcome = _failure(work, error, began)
        print(f"{outcome.state}: {outcome.error or ''}", file=stream)
        return outcome
    finally:
        faulthandler.disable()
        beat.end()


def _do(work: Work, memory: Memory, beat: Beat, report: Callable[[str], None]) -> Path | None:
    import torch

    from resnet_spiking.environment import Environment
    from resnet_spiking.terminal import choose_device

    torch.set_num_threads(work.resources.threads)
    if work.resources.command:
        # Results record the command that made them: the study's, not a worker's.
        sys.argv = list(work.resources.command)
    data_dir = work.payload.get("data_dir")
    environment = Environment(
        device=choose_device(work.resources.device),
        data_dir=Path(data_dir) if data_dir else None,
        cache_dir=work.resources.cache_dir,
        report=report,
        progress=beat.progress,
        on_epoch=beat.on_epoch,
        should_stop=stop_asked(work.folder),
        remember=memory,
    )
    return _KINDS[work.kind](work, environment, beat)


def _config(work: Work, environment: Any) -> RunConfig:
    from resnet_spiking.config import RunConfig
    from resnet_spiking.studies.precision import settled_precision

    config = RunConfig.from_dict(work.payload["config"])
    if config.precision != "auto":
        return config
    precision, note = settled_precision(work.folder, environment.device)
    if note:
        environment.report(note)
    return replace(config, precision=precision)


def _run(work: Work, environment: Any, beat: Beat) -> Path:
    from resnet_spiking.studies.intact import is_spoiled, read_curve
    from resnet_spiking.studies.labels import keep_labels
    from resnet_spiking.studies.traces import keep_traces
    from resnet_spiking.training.configured_data import remember_data
    from resnet_spiking.training.run import train_run

    config = _config(work, environment)
    beat.epochs = {"default": config.default_epochs, "spiking": config.spiking_epochs}
    output = work.folder / "runs" / work.label
    data = remember_data(config, environment)
    keep_labels(work.folder, data)
    begun, spoiled = (output / "config.json").exists(), is_spoiled(output)
    train_run(config, output, environment, data=data, resume=begun and not spoiled, overwrite=spoiled)
    if read_curve(output) is None:
        raise UserError(_damaged_source(output))
    if work.payload.get("traces"):
        keep_traces(output, data.test)
    return output / "result.json"


def _damaged_source(run: Path) -> str:
    """Say which Default's damaged curve was copied into ``run``; only training it again would give another."""
    curve = (run / "metrics.jsonl").read_bytes()
    alike = [path for path in sorted(run.parent.glob("default-*/metrics.jsonl")) if path.read_bytes() == curve]
    source = alike[0] if alike else run / "metrics.jsonl"
    return f"{source} is damaged; delete the folder {source.parent}: the study command trains this Default again"


def _features(work: Work, environment: Any, beat: Beat) -> None:
    from resnet_spiking.training.run import prepare_features

    config = _config(work, environment)
    prepare_features(config, work.folder / "runs", environment, pooled=work.payload["pooled"])


def _part(work: Work, environment: Any, beat: Beat) -> None:
    from resnet_spiking.studies.attacking import attack_network

    attack_network(work.folder, work.payload["attack"], work.payload, environment)


def _attack(work: Work, environment: Any, beat: Beat) -> Path:
    from resnet_spiking.studies.attacking import attack_networks

    return attack_networks(work.folder, work.label, work.payload, environment)


def _check(work: Work, environment: Any, beat: Beat) -> None:
    from resnet_spiking.studies.checking import check_study

    check_study(work.payload["study"])


_KINDS: dict[str, Callable[[Work, Any, Beat], Path | None]] = {
    "run": _run,
    "features": _features,
    "part": _part,
    "attack": _attack,
    "check": _check,
}


def _failure(work: Work, error: Exception, began: float) -> Outcome:
    seconds = time.perf_counter() - began
    if isinstance(error, Interrupted):
        return Outcome(work.key, "stopped", seconds=seconds)
    message = " ".join(str(error).split()) or type(error).__name__
    if _out_of_room(error):
        return Outcome(work.key, "full", seconds=seconds, error=f"no room to write a file ({message})")
    if isinstance(error, UserError):
        # The same input gives the same answer: another attempt would not help.
        return Outcome(work.key, "failed", seconds=seconds, error=message)
    return Outcome(work.key, "failed", seconds=seconds, error=f"{type(error).__name__}: {message}", again=True)


def _out_of_room(error: BaseException | None) -> bool:
    """Say whether a full disk is the cause; libraries wrap it in errors of their own, with the system's words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if any(words in str(error) for words in FULL_DISK):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sha256(path: Path) -> str:
    from resnet_spiking.storage.files import file_sha256

    return file_sha256(path)
